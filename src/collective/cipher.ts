import { type Aead, type AeadName, openAead, tagBytes } from "../native/aead.ts";

/** How frames are protected. `none` leaves them open to who is on the network: for measuring, and for tests. */
export type CipherName = AeadName | "none";

/** All ciphers, in the order of their numbers on the wire. */
export const cipherNames: readonly CipherName[] = ["none", "aes-256-gcm", "chacha20-poly1305"];

/** Protects the frames of one direction of one connection. */
export interface FrameCipher extends Disposable {
  /** Bytes that a frame grows by. */
  readonly overhead: number;
  /** Writes the payload of frame `sequence` to `sealed`, of the same length, and its tag to `tag`, of `overhead` bytes. */
  seal(sequence: number, header: Uint8Array, payload: Uint8Array, sealed: Uint8Array, tag: Uint8Array): void;
  /** Turns `sealed` into the payload, in place. False: this is not frame `sequence` as it was sent. */
  open(sequence: number, header: Uint8Array, sealed: Uint8Array, tag: Uint8Array): boolean;
}

/**
 * Opens a cipher with a key of 32 bytes that is used for nothing else. The nonce is the sequence number, so that no
 * number may be used twice; the header is authenticated, but not encrypted.
 */
export function openCipher(name: CipherName, key: Uint8Array): FrameCipher {
  if (name === "none") return openFrames;
  const aead = openAead(name, key);
  const nonce = new Uint8Array(12);
  const view = new DataView(nonce.buffer);
  const nonceOf = (sequence: number) => {
    view.setUint32(4, sequence, true);
    view.setUint32(8, Math.floor(sequence / 2 ** 32), true);
    return nonce;
  };
  return {
    overhead: tagBytes,
    seal: (sequence, header, payload, sealed, tag) => aead.seal(nonceOf(sequence), header, payload, sealed, tag),
    open: (sequence, header, sealed, tag) => aead.open(nonceOf(sequence), header, sealed, tag),
    [Symbol.dispose]: () => aead[Symbol.dispose](),
  };
}

const openFrames: FrameCipher = {
  overhead: 0,
  seal: (_sequence, _header, payload, sealed) => sealed.set(payload),
  open: () => true,
  [Symbol.dispose]() {},
};

let faster: AeadName | undefined;

/** The cipher this device is faster with, measured once (some 10 ms): AES where the CPU has instructions for it. */
export function fasterCipher(): AeadName {
  faster ??= sealsPerRound("aes-256-gcm") >= sealsPerRound("chacha20-poly1305") ? "aes-256-gcm" : "chacha20-poly1305";
  return faster;
}

function sealsPerRound(name: AeadName): number {
  const [key, nonce, header] = [new Uint8Array(32), new Uint8Array(12), new Uint8Array(16)];
  const [plain, sealed, tag] = [new Uint8Array(4096), new Uint8Array(4096), new Uint8Array(tagBytes)];
  using aead: Aead = openAead(name, key);
  aead.seal(nonce, header, plain, sealed, tag);
  const end = performance.now() + 4;
  let seals = 0;
  for (; performance.now() < end; seals++) aead.seal(nonce, header, plain, sealed, tag);
  return seals;
}
