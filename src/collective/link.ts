import { StelliumError } from "../errors.ts";
import { closeSocket, endSending, type Socket, tryReceive, trySend } from "../native/sockets.ts";
import { noRecorder, type Recorder } from "../trace/recorder.ts";
import { spanKind } from "../trace/spans.ts";
import type { FrameCipher } from "./cipher.ts";
import {
  checkHeader,
  FrameError,
  type FrameType,
  frameType,
  headerBytes,
  lostBytes,
  typeOf,
  writeHeader,
} from "./frame.ts";

/** What a link is made of. The connection is up, and the peer has proved who it is. */
export interface LinkOptions {
  /** This device's rank, and the one at the other end. */
  readonly rank: number;
  readonly peer: number;
  readonly socket: Socket;
  /** One cipher for each direction; the link disposes of them. */
  readonly sending: FrameCipher;
  readonly receiving: FrameCipher;
  /** Bytes that a frame carries at most, the same on both sides, 128 or more. All the memory of a link follows from it. */
  readonly maxPayload: number;
}

/**
 * One authenticated connection to another rank, used by one thread. It never waits: `transfer` moves frames over
 * several links at once. Whatever goes wrong is `LINK_LOST`, after which the link is of no more use.
 */
export class Link implements Disposable {
  readonly rank: number;
  readonly peer: number;
  readonly socket: Socket;
  readonly maxPayload: number;
  /** Bytes on the wire since the link was opened, with headers and tags. */
  bytesSent = 0;
  bytesReceived = 0;
  /** Milliseconds spent encrypting and decrypting. */
  cipherMs = 0;
  /** The one of the thread that uses the link, from when it is to record. */
  recorder: Recorder = noRecorder;
  readonly #outgoing: Direction;
  readonly #incoming: Direction;

  #closed = false;

  constructor({ rank, peer, socket, sending, receiving, maxPayload }: LinkOptions) {
    this.rank = rank;
    this.peer = peer;
    this.socket = socket;
    this.maxPayload = maxPayload;
    this.#outgoing = new Direction(sending, maxPayload);
    this.#incoming = new Direction(receiving, maxPayload);
  }

  /** Whether part of a frame has still to be sent. */
  get sending(): boolean {
    return this.#outgoing.done < this.#outgoing.end;
  }

  /** Whether part of the next frame has come already. */
  get receiving(): boolean {
    return this.#incoming.done > 0;
  }

  /** Makes `payload` (1 to `maxPayload` bytes) the next frame to send. The one before must be gone; it is copied. */
  stage(payload: Uint8Array, type: FrameType = frameType.data): void {
    const out = this.#outgoing;
    writeHeader(out.view, type, out.sequence, payload.length);
    out.end = headerBytes + payload.length + out.cipher.overhead;
    out.done = 0;
    const sealed = out.bytes.subarray(headerBytes, out.end);
    this.#timed(payload.length, () => out.cipher.seal(out.sequence++, out.header, payload, sealed));
  }

  /** Sends what the system takes of the staged frame. True: all of it is gone. */
  flush(): boolean {
    const out = this.#outgoing;
    while (out.done < out.end) {
      const sent = this.#orLost(() => trySend(this.socket, out.bytes.subarray(out.done, out.end)));
      if (sent === 0) return false;
      out.done += sent;
      this.bytesSent += sent;
    }
    return true;
  }

  /**
   * Receives what there is of the next frame, which has to carry `expected` bytes. Returns its payload once it is
   * whole and authentic, undefined before. The payload lies 16-byte aligned, and only until the next call.
   */
  receive(expected: number): Uint8Array | undefined {
    const into = this.#incoming;
    if (into.done < headerBytes) into.end = headerBytes + expected + into.cipher.overhead;
    while (into.done < into.end) {
      const received = this.#orLost(() => tryReceive(this.socket, into.bytes.subarray(into.done, into.end)));
      if (received === 0) return undefined;
      this.bytesReceived += received;
      this.#checkHeader(into, received, expected);
    }
    return this.#orLost(() => this.#open(into));
  }

  #checkHeader(into: Direction, received: number, expected: number): void {
    const before = into.done;
    into.done += received;
    if (before >= headerBytes || into.done < headerBytes) return;
    const length = this.#orLost(() => checkHeader(into.view, into.sequence, expected));
    into.end = headerBytes + length + into.cipher.overhead;
  }

  #open(into: Direction): Uint8Array {
    const sealed = into.bytes.subarray(headerBytes, into.end);
    const authentic = this.#timed(sealed.length, () => into.cipher.open(into.sequence, into.header, sealed));
    if (!authentic) throw new FrameError(`frame ${into.sequence} was changed on its way`);
    into.sequence++;
    into.done = 0;
    const payload = sealed.subarray(0, sealed.length - into.cipher.overhead);
    if (typeOf(into.view) === frameType.lost) throw this.#lostElsewhere(payload);
    return payload;
  }

  #lostElsewhere(payload: Uint8Array): StelliumError {
    const rank = new DataView(payload.buffer, payload.byteOffset).getUint32(0, true);
    if (rank === this.rank) return linkLost(rank, this.peer, "it had no answer from this device in time");
    return linkLost(this.rank, rank, `device ${this.peer} lost it`);
  }

  /**
   * Says to the peer, as far as that is possible without waiting, that device `rank` is lost, and that nothing more
   * will come. What the peer sent is not lost by it.
   */
  giveUp(rank: number): void {
    if (this.#closed) return;
    try {
      if (this.flush()) {
        const payload = new Uint8Array(lostBytes);
        new DataView(payload.buffer).setUint32(0, rank, true);
        this.stage(payload, frameType.lost);
        this.flush();
      }
    } catch {
      // The peer is gone, too.
    }
    endSending(this.socket);
  }

  /** Closes the connection and frees what belongs to it. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    closeSocket(this.socket);
    this.#outgoing.cipher[Symbol.dispose]();
    this.#incoming.cipher[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #timed<T>(bytes: number, work: () => T): T {
    const [started, begun] = [performance.now(), this.recorder.now()];
    const result = work();
    this.recorder.end(spanKind.cipher, begun, 0, bytes);
    this.cipherMs += performance.now() - started;
    return result;
  }

  #orLost<T>(step: () => T): T {
    if (this.#closed) throw linkLost(this.rank, this.peer, "the link was closed");
    return orLost(this.rank, this.peer, step);
  }
}

/** The frame under way in one direction. */
class Direction {
  readonly cipher: FrameCipher;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView;
  readonly header: Uint8Array;
  sequence = 0;
  /** Bytes of the frame that have been moved, and that there are. */
  done = 0;
  end = 0;

  constructor(cipher: FrameCipher, maxPayload: number) {
    this.cipher = cipher;
    this.bytes = new Uint8Array(headerBytes + Math.max(maxPayload, lostBytes) + cipher.overhead);
    this.view = new DataView(this.bytes.buffer);
    this.header = this.bytes.subarray(0, headerBytes);
  }
}

/** `LINK_LOST` between two ranks. */
export function linkLost(rank: number, peer: number, reason: string, cause?: unknown): StelliumError {
  return new StelliumError("LINK_LOST", { rank, peer, reason }, { cause });
}

/** Runs what uses a connection; its errors become `LINK_LOST`. */
export function orLost<T>(rank: number, peer: number, step: () => T): T {
  try {
    return step();
  } catch (error) {
    if (error instanceof StelliumError) throw error;
    throw linkLost(rank, peer, error instanceof Error ? error.message : String(error), error);
  }
}
