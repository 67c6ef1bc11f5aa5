import type { TLSSocket } from "node:tls";
import { reasonOf } from "../../errors.ts";
import { type Frame, FrameDecoder } from "./frames.ts";

/** A peer that leaves this much unread has stopped to take anything. */
const mostUnsentBytes = 32 * 2 ** 20;
/** For how long what was sent before the end may still take. */
const lingerMs = 2000;

/** Whom a wire tells. `frame` may throw: `failed` is told what. */
export interface WireEvents {
  /** Bytes came, whether or not they complete a frame. */
  readonly heard: () => void;
  readonly frame: (frame: Frame) => void;
  readonly failed: (error: unknown) => void;
  /** There is no connection any more. */
  readonly lost: (reason: string) => void;
}

/** Frames over a socket. Events come until `end` or `cut` is called. */
export class FrameSocket {
  /** Resolves when the socket is closed. */
  readonly closed: Promise<void>;
  /** Bytes of all frames so far, without what encryption adds. */
  bytesSent = 0;
  bytesReceived = 0;
  readonly #socket: TLSSocket;
  readonly #events: WireEvents;
  readonly #decoder = new FrameDecoder();
  #ended = false;
  /** Whether a part of what was sent has been taken since the last tick, and for how many ticks none has. */
  #taken = false;
  #untakenTicks = 0;

  constructor(socket: TLSSocket, events: WireEvents) {
    this.#socket = socket;
    this.#events = events;
    socket.setNoDelay(true);
    socket.setKeepAlive(true, 10_000);
    socket.on("data", (chunk: Buffer) => this.#receive(chunk));
    socket.on("error", (error) => this.#lose(reasonOf(error)));
    socket.on("end", () => this.#lose("it closed the connection"));
    this.closed = new Promise((resolve) => {
      if (socket.closed) resolve();
      socket.once("close", () => {
        this.#lose("the connection was closed");
        resolve();
      });
    });
  }

  /** Bytes that wait to leave this process. */
  get unsentBytes(): number {
    return this.#socket.writableLength;
  }

  /** Counts one more tick of a clock. Returns for how many in a row the peer has taken no whole part of what waits for it. */
  untakenTicks(): number {
    this.#untakenTicks = this.#taken || this.unsentBytes === 0 ? 0 : this.#untakenTicks + 1;
    this.#taken = false;
    return this.#untakenTicks;
  }

  get isPaused(): boolean {
    return this.#socket.isPaused();
  }

  /** Stops reading; the peer's kernel and then the peer have to wait. */
  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  /** Resolves when the frame has left this process, and rejects when it cannot. */
  write(parts: readonly Uint8Array[]): Promise<void> {
    return new Promise((resolve, reject) => this.post(parts, (error) => (error ? reject(error) : resolve())));
  }

  /** Sends a frame and tells `sent`, if anybody. */
  post(parts: readonly Uint8Array[], sent?: (error?: Error | null) => void): void {
    const last = parts.length - 1;
    this.#socket.cork();
    parts.forEach((part, i) => {
      this.bytesSent += part.length;
      this.#socket.write(part, (error) => {
        this.#taken = true;
        if (i === last) sent?.(error);
      });
    });
    this.#socket.uncork();
    if (this.unsentBytes > mostUnsentBytes) this.#lose("it no longer reads what it is sent");
  }

  /** Closes after what was sent, or soon. What still comes is read, so that the peer gets our last words, and ignored. */
  end(): void {
    this.#ended = true;
    this.#socket.end();
    this.#socket.resume();
    const linger = setTimeout(() => this.#socket.destroy(), lingerMs);
    this.#socket.once("close", () => clearTimeout(linger));
  }

  /** Closes at once. */
  cut(): void {
    this.#ended = true;
    this.#socket.destroy();
  }

  #receive(chunk: Buffer): void {
    if (this.#ended) return;
    this.bytesReceived += chunk.length;
    this.#events.heard();
    try {
      for (const frame of this.#decoder.push(chunk)) {
        this.#events.frame(frame);
        if (this.#ended) return;
      }
    } catch (error) {
      this.#events.failed(error);
    }
  }

  #lose(reason: string): void {
    if (!this.#ended) this.#events.lost(reason);
  }
}
