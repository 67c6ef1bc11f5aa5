import { StelliumError } from "../errors.ts";
import { closeSocket, endSending, type Socket, tryReceive, trySend } from "../native/sockets.ts";
import { noRecorder, type Recorder } from "../trace/recorder.ts";
import { spanKind } from "../trace/spans.ts";
import type { FrameCipher } from "./cipher.ts";
import { checkHeader, type FrameType, frameType, headerBytes, lostBytes, typeOf, writeHeader } from "./frame.ts";

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
 * One authenticated connection to another rank, used by one thread. It never waits: a `Transfer` moves frames over
 * several links at once. Every failure is `LINK_LOST`, after which the link cannot be used any more.
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

  /** True if part of a frame has still to be sent. */
  get sending(): boolean {
    return this.#outgoing.done < this.#outgoing.end;
  }

  /** True if part of the next frame has come already. */
  get receiving(): boolean {
    return this.#incoming.done > 0;
  }

  /**
   * Prepares sending `payload` (1 to `maxPayload` bytes) as one frame, any number of times: it is copied whenever it is
   * staged.
   */
  outgoing(payload: Uint8Array): OutgoingFrame {
    return { payload, place: this.#outgoing.placeOf(payload.length) };
  }

  /** Prepares receiving a frame of `length` bytes, any number of times. */
  incoming(length: number): FramePlace {
    return this.#incoming.placeOf(length);
  }

  /** Makes a frame the next one to send. The one before must be gone. */
  stage({ payload, place }: OutgoingFrame, type: FrameType = frameType.data): void {
    const out = this.#outgoing;
    writeHeader(out.view, type, out.sequence, payload.length);
    out.place = place;
    out.end = place.whole.length;
    out.done = 0;
    const [started, begun] = [performance.now(), this.recorder.now()];
    out.cipher.seal(out.sequence++, out.header, payload, place.payload, place.tag);
    this.#countCipher(started, begun, payload.length);
  }

  /** Sends what the system takes of the staged frame. True: all of it is gone. */
  flush(): boolean {
    const out = this.#outgoing;
    while (out.done < out.end) {
      const sent = this.#trySend(out.rest());
      if (sent === 0) return false;
      out.done += sent;
      this.bytesSent += sent;
    }
    return true;
  }

  /**
   * Receives what there is of the next frame, which has to carry as many bytes as `place` has. True: it is whole and
   * authentic, and its payload lies in `place.payload`, 16-byte aligned, until the next call.
   */
  receive(place: FramePlace): boolean {
    const into = this.#incoming;
    if (into.done < headerBytes) {
      into.place = place;
      into.end = place.whole.length;
    }
    while (into.done < into.end) {
      const received = this.#tryReceive(into.rest());
      if (received === 0) return false;
      this.bytesReceived += received;
      const before = into.done;
      into.done += received;
      if (before < headerBytes && into.done >= headerBytes) this.#checkHeader(into, place.payload.length);
    }
    this.#open(into);
    return true;
  }

  #trySend(bytes: Uint8Array): number {
    try {
      this.#checkOpen();
      return trySend(this.socket, bytes);
    } catch (error) {
      throw asLost(this.rank, this.peer, error);
    }
  }

  #tryReceive(into: Uint8Array): number {
    try {
      this.#checkOpen();
      return tryReceive(this.socket, into);
    } catch (error) {
      throw asLost(this.rank, this.peer, error);
    }
  }

  #checkHeader(into: Direction, expected: number): void {
    try {
      const length = checkHeader(into.view, into.sequence, expected);
      if (length === expected) return;
      into.place = into.placeOf(length);
      into.end = into.place.whole.length;
    } catch (error) {
      throw asLost(this.rank, this.peer, error);
    }
  }

  #open(into: Direction): void {
    const { payload, tag } = into.place;
    const [started, begun] = [performance.now(), this.recorder.now()];
    const authentic = into.cipher.open(into.sequence, into.header, payload, tag);
    this.#countCipher(started, begun, payload.length);
    if (!authentic) throw linkLost(this.rank, this.peer, `frame ${into.sequence} was changed on its way`);
    into.sequence++;
    into.done = 0;
    if (typeOf(into.view) === frameType.lost) throw this.#lostElsewhere(payload);
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
        this.stage(this.outgoing(payload), frameType.lost);
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

  /** Adds what an encryption took that began at `started`, by `performance.now()`, and at `begun`, by the recorder. */
  #countCipher(started: number, begun: number, bytes: number): void {
    this.recorder.end(spanKind.cipher, begun, 0, bytes);
    this.cipherMs += performance.now() - started;
  }

  #checkOpen(): void {
    if (this.#closed) throw linkLost(this.rank, this.peer, "the link was closed");
  }
}

/** Where a frame with a payload of some length lies in the memory of a link's direction. */
export interface FramePlace {
  /** Header, payload and tag. */
  readonly whole: Uint8Array;
  readonly payload: Uint8Array;
  readonly tag: Uint8Array;
}

/** A payload, and the frame that carries it. */
export interface OutgoingFrame {
  readonly payload: Uint8Array;
  readonly place: FramePlace;
}

/** The current frame in one direction. */
class Direction {
  readonly cipher: FrameCipher;
  readonly view: DataView;
  readonly header: Uint8Array;
  /** Of the current frame. */
  place: FramePlace;
  sequence = 0;
  /** Bytes of the frame that have been moved, and that there are. */
  done = 0;
  end = 0;
  readonly #bytes: Uint8Array<ArrayBuffer>;

  constructor(cipher: FrameCipher, maxPayload: number) {
    this.cipher = cipher;
    this.#bytes = new Uint8Array(headerBytes + Math.max(maxPayload, lostBytes) + cipher.overhead);
    this.view = new DataView(this.#bytes.buffer);
    this.header = this.#bytes.subarray(0, headerBytes);
    this.place = this.placeOf(0);
  }

  placeOf(length: number): FramePlace {
    const whole = this.#bytes.subarray(0, headerBytes + length + this.cipher.overhead);
    return {
      whole,
      payload: whole.subarray(headerBytes, headerBytes + length),
      tag: whole.subarray(headerBytes + length),
    };
  }

  /** The part of the frame that has not been moved yet. */
  rest(): Uint8Array {
    return this.done === 0 ? this.place.whole : this.place.whole.subarray(this.done);
  }
}

/** `LINK_LOST` between two ranks. */
export function linkLost(rank: number, peer: number, reason: string, cause?: unknown): StelliumError {
  return new StelliumError("LINK_LOST", { rank, peer, reason }, { cause });
}

/** An error from the use of a connection, as `LINK_LOST`. */
export function asLost(rank: number, peer: number, error: unknown): StelliumError {
  if (error instanceof StelliumError) return error;
  return linkLost(rank, peer, error instanceof Error ? error.message : String(error), error);
}

/** Runs what uses a connection; its errors become `LINK_LOST`. */
export function orLost<T>(rank: number, peer: number, step: () => T): T {
  try {
    return step();
  } catch (error) {
    throw asLost(rank, peer, error);
  }
}
