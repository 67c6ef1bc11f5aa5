import { createHmac, hkdfSync, randomBytes, timingSafeEqual } from "node:crypto";
import { type CipherName, cipherNames, openCipher } from "./cipher.ts";
import { FrameError, type FrameType, headerBytes, writeHeader } from "./frame.ts";
import type { LinkOptions } from "./link.ts";

/**
 * How two ranks prove to each other that they hold the keys of their link, in three frames of the same fixed size:
 *
 * - `hello`, from the rank that dials: ranks, cipher, its challenge, and an HMAC over them;
 * - `accept`: the other's challenge, and an HMAC over both challenges;
 * - `confirm`: an HMAC over both challenges.
 *
 * Whoever replays a hello cannot confirm. The keys of the frames are derived from the link's keys and both challenges,
 * so that a second connection with the same link keys never uses a nonce again.
 */

/** What a rank knows of a link before it is up. */
export interface LinkKeys {
  readonly rank: number;
  readonly peer: number;
  /** Keys of 32 bytes, one for each direction: this rank's `sendKey` is the peer's `receiveKey`. */
  readonly sendKey: Uint8Array;
  readonly receiveKey: Uint8Array;
}

const challengeBytes = 32;
const identityBytes = 8;
const macOffset = headerBytes + identityBytes + challengeBytes;

/** Bytes of each of the three frames. */
export const greetingBytes = macOffset + 32;

/** A challenge, new for each connection. */
export function newChallenge(): Uint8Array {
  return randomBytes(challengeBytes);
}

/** One greeting of `keys.rank`. `challenges` are the dialling side's first, as far as both know them. */
export function writeGreeting(
  type: FrameType,
  keys: LinkKeys,
  cipher: CipherName,
  own: Uint8Array,
  challenges: readonly Uint8Array[],
): Uint8Array {
  const bytes = new Uint8Array(greetingBytes);
  bytes.set(expectedStart(type, keys.rank, keys.peer, cipher));
  bytes.set(own, headerBytes + identityBytes);
  bytes.set(macOf(keys.sendKey, bytes, challenges), macOffset);
  return bytes;
}

/** Checks a greeting of `keys.peer`, and returns its challenge. Throws `FrameError`: it holds another key. */
export function checkGreeting(
  type: FrameType,
  keys: LinkKeys,
  cipher: CipherName,
  bytes: Uint8Array,
  challenges: readonly Uint8Array[],
): Uint8Array {
  const authentic = timingSafeEqual(macOf(keys.receiveKey, bytes, challenges), bytes.subarray(macOffset));
  if (!authentic) throw new FrameError("it does not hold the key of this link");
  const start = expectedStart(type, keys.peer, keys.rank, cipher);
  if (start.some((byte, i) => byte !== bytes[i])) throw new FrameError("it greets as for another link or cipher");
  return bytes.slice(headerBytes + identityBytes, macOffset);
}

/** The rank that a hello claims to come from: says which key it has to prove, nothing else. */
export function claimedRank(hello: Uint8Array): number {
  return hello[headerBytes]! + 256 * hello[headerBytes + 1]!;
}

/** What the link is made of once both have proved themselves, but for the socket. */
export function linkCiphers(
  keys: LinkKeys,
  cipher: CipherName,
  challenges: readonly Uint8Array[],
): Pick<LinkOptions, "rank" | "peer" | "sending" | "receiving"> {
  const derive = (key: Uint8Array) =>
    new Uint8Array(hkdfSync("sha256", key, Buffer.concat(challenges), "stellium data plane frames", 32));
  return {
    rank: keys.rank,
    peer: keys.peer,
    sending: openCipher(cipher, derive(keys.sendKey)),
    receiving: openCipher(cipher, derive(keys.receiveKey)),
  };
}

/** Header and identity: all that a greeting begins with, and the only one that is accepted. */
function expectedStart(type: FrameType, from: number, to: number, cipher: CipherName): Uint8Array {
  const bytes = new Uint8Array(headerBytes + identityBytes);
  const view = new DataView(bytes.buffer);
  writeHeader(view, type, 0, greetingBytes - headerBytes);
  view.setUint16(headerBytes, from, true);
  view.setUint16(headerBytes + 2, to, true);
  view.setUint8(headerBytes + 4, cipherNames.indexOf(cipher));
  return bytes;
}

function macOf(key: Uint8Array, greeting: Uint8Array, challenges: readonly Uint8Array[]): Buffer {
  const mac = createHmac("sha256", key).update(greeting.subarray(0, macOffset));
  for (const challenge of challenges) mac.update(challenge);
  return mac.digest();
}
