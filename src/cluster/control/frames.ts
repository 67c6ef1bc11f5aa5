/**
 * Frames of the control channel: what passes over the byte stream. A frame is the length of its payload in bytes (32 bit,
 * little-endian), its kind (one byte) and the payload. This layout is the same in every version of the protocol, so that
 * two versions can tell each other which they are.
 */

/** Most bytes of a JSON message. */
export const maxJsonBytes = 2 ** 20;
/** Most bytes that one data frame carries. */
export const maxDataBytes = 4 * 2 ** 20;

const kinds = { json: 0, data: 1, credit: 2 } as const;
const headerBytes = 5;
/** Stream (32 bit) and offset (64 bit) before the bytes of a data frame. */
const dataHeaderBytes = 12;
const creditBytes = 4;

/** A piece of a byte stream of its own, such as the weights of a block. */
export interface DataFrame {
  readonly type: "data";
  /** Which stream, as agreed in a message before; an unsigned 32-bit integer. */
  readonly stream: number;
  /** Where in the stream the bytes belong. */
  readonly offset: number;
  readonly bytes: Buffer;
}

/** A frame as it came from the stream; nothing but its bounds has been checked. */
export type Frame =
  | { readonly type: "json"; readonly payload: Buffer }
  | DataFrame
  | { readonly type: "credit"; readonly bytes: number };

/** Something a well-behaved peer does not send. The message is for people and holds nothing of what was sent. */
export class Violation extends Error {}

/** The frame of a JSON message; `payload` is its text. */
export function jsonFrame(payload: Buffer): Buffer[] {
  return [header(kinds.json, payload.length), payload];
}

/** The frame of a piece of data; `bytes` are not copied. */
export function dataFrame(stream: number, offset: number, bytes: Uint8Array): Uint8Array[] {
  const head = Buffer.alloc(headerBytes + dataHeaderBytes);
  header(kinds.data, dataHeaderBytes + bytes.length).copy(head);
  head.writeUInt32LE(stream, headerBytes);
  head.writeBigUInt64LE(BigInt(offset), headerBytes + 4);
  return [head, bytes];
}

/** The frame that allows the peer to send `bytes` more. */
export function creditFrame(bytes: number): Buffer[] {
  const payload = Buffer.alloc(creditBytes);
  payload.writeUInt32LE(bytes);
  return [header(kinds.credit, creditBytes), payload];
}

function header(kind: number, length: number): Buffer {
  const bytes = Buffer.alloc(headerBytes);
  bytes.writeUInt32LE(length);
  bytes[4] = kind;
  return bytes;
}

/** Cuts a byte stream into frames. Holds one frame at most, and takes room for no more than a frame may have. */
export class FrameDecoder {
  readonly #header = Buffer.alloc(headerBytes);
  #headerFilled = 0;
  #payload: Buffer | undefined;
  #payloadFilled = 0;

  /** The frames that `chunk` completes. Throws `Violation`; nothing can be decoded after that. */
  *push(chunk: Uint8Array): Generator<Frame> {
    let at = 0;
    while (at < chunk.length) {
      at += this.#payload ? this.#fillPayload(this.#payload, chunk, at) : this.#fillHeader(chunk, at);
      if (this.#payload && this.#payloadFilled === this.#payload.length) yield this.#complete(this.#payload);
    }
  }

  #fillHeader(chunk: Uint8Array, at: number): number {
    const taken = Math.min(headerBytes - this.#headerFilled, chunk.length - at);
    this.#header.set(chunk.subarray(at, at + taken), this.#headerFilled);
    this.#headerFilled += taken;
    if (this.#headerFilled === headerBytes) {
      // Its own memory, not a part of a shared pool: a small frame that waits would hold all of it.
      this.#payload = Buffer.allocUnsafeSlow(checkedLength(this.#header.readUInt32LE(), this.#header[4]!));
      this.#payloadFilled = 0;
    }
    return taken;
  }

  #fillPayload(payload: Buffer, chunk: Uint8Array, at: number): number {
    const taken = Math.min(payload.length - this.#payloadFilled, chunk.length - at);
    payload.set(chunk.subarray(at, at + taken), this.#payloadFilled);
    this.#payloadFilled += taken;
    return taken;
  }

  #complete(payload: Buffer): Frame {
    this.#headerFilled = 0;
    this.#payload = undefined;
    return parseFrame(this.#header[4]!, payload);
  }
}

function checkedLength(length: number, kind: number): number {
  const [least, most] = bounds(kind);
  if (length >= least && length <= most) return length;
  throw new Violation(`a frame of kind ${kind} has ${length} bytes, and ${least} to ${most} are allowed`);
}

function bounds(kind: number): [least: number, most: number] {
  if (kind === kinds.json) return [2, maxJsonBytes];
  if (kind === kinds.data) return [dataHeaderBytes + 1, dataHeaderBytes + maxDataBytes];
  if (kind === kinds.credit) return [creditBytes, creditBytes];
  throw new Violation(`there is no frame of kind ${kind}`);
}

function parseFrame(kind: number, payload: Buffer): Frame {
  if (kind === kinds.json) return { type: "json", payload };
  if (kind === kinds.credit) return { type: "credit", bytes: payload.readUInt32LE() };
  const offset = Number(payload.readBigUInt64LE(4));
  if (!Number.isSafeInteger(offset)) throw new Violation("a data frame has an offset of 2^53 or more");
  return { type: "data", stream: payload.readUInt32LE(), offset, bytes: payload.subarray(dataHeaderBytes) };
}
