import type { TLSSocket } from "node:tls";
import { reasonOf, StelliumError } from "../../errors.ts";
import { onAbort } from "./abort.ts";
import { fittingText, longestReason } from "./fields.ts";
import { creditFrame, type DataFrame, dataFrame, type Frame, jsonFrame, maxJsonBytes, Violation } from "./frames.ts";
import { defaultHeartbeat, Heartbeat, type HeartbeatTimes } from "./heartbeat.ts";
import { Inbox } from "./inbox.ts";
import { protocolVersion, versionMessage } from "./messages.ts";
import { Receipt, SendWindow, windowCost } from "./sendWindow.ts";
import { type AnyMessage, firstIssue, parseMessage, type Side } from "./sides.ts";
import { FrameSocket } from "./wire.ts";

/** Data is sent in frames of this many bytes: large enough for speed, small enough to let messages through between. */
const dataStep = 2 ** 18;
/** Unread messages beyond this many bytes stop us from reading on. */
const mostUnreadBytes = 4 * 2 ** 20;
/** What an unread message costs besides its text. */
const messageCost = 1024;
/** Pings and pongs are left out while this much waits to be sent: that shows as much. */
const busyBytes = 2 ** 16;

/** How a channel ended. */
export interface ChannelEnd {
  readonly by: "us" | "peer";
  /** What was said in closing, or what went wrong. */
  readonly reason: string;
  /** Whether the coordinator has removed the device at the other end. */
  readonly removed?: boolean;
  /** Absent where one side closed it on purpose. */
  readonly error?: StelliumError;
}

/** Bytes in both directions. */
export interface Traffic {
  readonly sent: number;
  readonly received: number;
}

/** What a channel has to know. */
export interface ChannelOptions<In, Out> {
  readonly side: Side<In, Out>;
  /** Version of Stellium, for the peer's error message. */
  readonly version: string;
  /** Version of the protocol; another than `protocolVersion` only in tests. */
  readonly protocol?: number | undefined;
  /** Names the peer in errors. */
  readonly peer: () => string;
  /** The error for a peer that is gone. */
  readonly lost: (reason: string) => StelliumError;
  readonly heartbeat?: HeartbeatTimes | undefined;
  /** Closes the channel. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * One end of a connection between the coordinator and a worker: messages, and data beside them.
 *
 * It has one reader (`for await`, or `next`), which gets messages and data frames in the order in which they were sent.
 * Reading ends when either side closes the channel on purpose, and otherwise throws `WORKER_LOST` or
 * `COORDINATOR_LOST`, `PROTOCOL_VIOLATION` or `VERSION_MISMATCH`. What came before is read first; `ended` tells at once.
 * Messages overtake data that waits for the peer to read.
 */
export class Channel<In extends AnyMessage, Out extends AnyMessage> implements AsyncDisposable {
  /** Resolves as soon as the channel has ended; never rejects. */
  readonly ended: Promise<ChannelEnd>;
  readonly #options: ChannelOptions<In, Out>;
  readonly #wire: FrameSocket;
  readonly #inbox = new Inbox<In | DataFrame>();
  readonly #window = new SendWindow();
  readonly #receipt = new Receipt((bytes) => this.#wire.post(creditFrame(bytes)));
  readonly #heartbeat: Heartbeat;
  readonly #forgetSignal: () => void;
  #announceEnd: (end: ChannelEnd) => void = () => {};
  /** Whether both versions are known; until then nothing else is said or heard. */
  #greeted = false;
  #greeting: { readonly resolve: () => void; readonly reject: (error: unknown) => void } | undefined;
  #end: ChannelEnd | undefined;
  #ping = { sequence: 0, sentAt: 0 };
  #roundTripMs: number | undefined;
  #unreadBytes = 0;

  /**
   * Takes over a connected and authenticated socket and compares versions. Rejects with `VERSION_MISMATCH`, and as
   * reading does; the socket is closed then. Waits for as long as the peer shows life: a caller with a deadline destroys
   * the socket.
   */
  static async open<In extends AnyMessage, Out extends AnyMessage>(
    socket: TLSSocket,
    options: ChannelOptions<In, Out>,
  ): Promise<Channel<In, Out>> {
    const channel = new Channel(socket, options);
    await channel.#greet();
    return channel;
  }

  private constructor(socket: TLSSocket, options: ChannelOptions<In, Out>) {
    this.#options = options;
    this.ended = new Promise((resolve) => {
      this.#announceEnd = resolve;
    });
    this.#wire = new FrameSocket(socket, {
      heard: () => this.#heartbeat.heard(),
      frame: (frame) => this.#take(frame),
      failed: (error) => this.#fail(error),
      lost: (reason) => this.#lose(reason),
    });
    this.#heartbeat = new Heartbeat(options.heartbeat ?? defaultHeartbeat, {
      ping: () => this.#beat(),
      lost: (seconds) => this.#lose(`nothing came from it for ${seconds} s`),
      listening: () => !this.#wire.isPaused,
    });
    const abort = () => this.#finish({ by: "us", reason: "stopped" });
    this.#forgetSignal = onAbort(options.signal, abort);
    if (options.signal?.aborted) abort();
  }

  /** Whether it still carries messages. */
  get isOpen(): boolean {
    return this.#end === undefined;
  }

  /** Milliseconds between the last answered ping and its answer; undefined before the first. */
  get roundTripMs(): number | undefined {
    return this.#roundTripMs;
  }

  /** Bytes that have passed so far, without what encryption adds. */
  get traffic(): Traffic {
    const { bytesSent: sent, bytesReceived: received } = this.#wire;
    return { sent, received };
  }

  /** The next message or data frame. The room of the one before counts as free again: the peer may send as much. */
  next(): Promise<IteratorResult<In | DataFrame, undefined>> {
    return this.#inbox.next();
  }

  /** The one reader. Leaving the loop does not close the channel; a later loop goes on. */
  [Symbol.asyncIterator](): AsyncIterator<In | DataFrame, undefined> {
    return this.#inbox;
  }

  /**
   * Resolves when the message has left this process. Rejects with `UNEXPECTED` if it is not valid, and with why the
   * channel has ended, or `ABORTED` after our own `close`.
   */
  async send(message: Out): Promise<void> {
    const result = this.#options.side.sends.safeParse(message);
    if (!result.success) throw unexpected(`the message ${message.type} is not valid: ${firstIssue(result.error)}`);
    const payload = Buffer.from(JSON.stringify(message));
    if (payload.length > maxJsonBytes) throw unexpected(`the message ${message.type} has ${payload.length} bytes`);
    await this.#write(jsonFrame(payload));
  }

  /**
   * Sends a part of a stream, of any length, as fast as the peer reads. When it resolves, the bytes have left this
   * process and their memory may be used again. Rejects as `send` does, and with the signal's reason; their memory may
   * then be in use until the channel is closed.
   */
  async sendData(stream: number, offset: number, bytes: Uint8Array, signal?: AbortSignal): Promise<void> {
    let written = Promise.resolve();
    for (let at = 0; at < bytes.length; at += dataStep) {
      const part = bytes.subarray(at, at + dataStep);
      await this.#window.take(windowCost(part.length), signal);
      await written;
      written = this.#write(dataFrame(stream, offset + at, part));
      written.catch(() => {});
    }
    await written;
  }

  /**
   * Says why, lets what was sent go out (for 2 s at most), and closes. Resolves when the socket is closed.
   *
   * @param removed - tells a worker that its key is no longer valid
   */
  close(reason: string, removed = false): Promise<void> {
    this.#finish({ by: "us", reason, ...(removed && { removed }) });
    return this.#wire.closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close("done");
  }

  #greet(): Promise<void> {
    const { protocol = protocolVersion, version: stellium } = this.#options;
    return new Promise((resolve, reject) => {
      this.#greeting = { resolve, reject };
      if (this.#end) reject(this.#endError(this.#end));
      else this.#post({ type: "version", protocol, stellium });
    });
  }

  #take(frame: Frame): void {
    if (!this.#greeted) this.#takeVersion(frame);
    else if (frame.type === "json") this.#takeMessage(frame.payload);
    else if (frame.type === "credit") this.#window.grant(frame.bytes);
    else this.#inbox.push(frame, this.#receipt.of(frame.bytes.length));
  }

  #takeVersion(frame: Frame): void {
    if (frame.type !== "json") throw new Violation("its first message is not its version");
    const { protocol, stellium } = parseMessage(versionMessage, frame.payload);
    const { protocol: ours = protocolVersion, version, peer } = this.#options;
    if (protocol !== ours) throw versionMismatch([ours, version], [protocol, stellium], peer());
    this.#greeted = true;
    this.#greeting?.resolve();
  }

  #takeMessage(payload: Buffer): void {
    const message = parseMessage(this.#options.side.receives, payload);
    if (message.type === "ping") this.#pingBack(message.sequence);
    else if (message.type === "pong") this.#takePong(message.sequence);
    else if (message.type === "leave" || message.type === "shutdown") {
      const { reason = "", removed } = message;
      this.#finish({ by: "peer", reason, ...(removed && { removed }) });
    } else this.#deliver(message, payload.length + messageCost);
  }

  #deliver(message: In, cost: number): void {
    this.#unreadBytes += cost;
    if (this.#unreadBytes > mostUnreadBytes) this.#wire.pause();
    this.#inbox.push(message, () => {
      this.#unreadBytes -= cost;
      if (this.#wire.isPaused && this.#unreadBytes <= mostUnreadBytes) this.#wire.resume();
    });
  }

  #beat(): void {
    const { intervalMs, untakenAfterMs } = { ...defaultHeartbeat, ...this.#options.heartbeat };
    if (this.#wire.untakenTicks() * intervalMs < untakenAfterMs) this.#sendPing();
    else this.#lose(`it has taken nothing of what it is sent for ${untakenAfterMs / 1000} s`);
  }

  #sendPing(): void {
    if (!this.#greeted || this.#wire.unsentBytes > busyBytes) return;
    this.#ping = { sequence: this.#ping.sequence + 1, sentAt: performance.now() };
    this.#post({ type: "ping", sequence: this.#ping.sequence });
  }

  #pingBack(sequence: number | undefined): void {
    if (this.#wire.unsentBytes <= busyBytes) this.#post({ type: "pong", sequence });
  }

  #takePong(sequence: number | undefined): void {
    if (sequence === this.#ping.sequence) this.#roundTripMs = performance.now() - this.#ping.sentAt;
  }

  #post(message: unknown): void {
    this.#wire.post(jsonFrame(Buffer.from(JSON.stringify(message))));
  }

  /** Writing fails with why the channel ended, rather than with what a closed socket says. */
  async #write(parts: readonly Uint8Array[]): Promise<void> {
    if (!this.#end) {
      const failure = await this.#wire.write(parts).catch((error: unknown) => error ?? "");
      if (failure === undefined) return;
      this.#lose(reasonOf(failure));
    }
    if (this.#end) throw this.#endError(this.#end);
  }

  #lose(reason: string): void {
    const error = this.#options.lost(reason);
    this.#finish({ by: "peer", reason, error });
  }

  /** Ends the channel for something that the peer did, or that failed here. */
  #fail(cause: unknown): void {
    const error = cause instanceof StelliumError ? cause : this.#wrapped(cause);
    this.#finish({ by: "us", reason: `${error.code}: ${error.message}`, error });
  }

  #wrapped(cause: unknown): StelliumError {
    if (!(cause instanceof Violation)) return new StelliumError("UNEXPECTED", { reason: reasonOf(cause) }, { cause });
    return new StelliumError("PROTOCOL_VIOLATION", { peer: this.#options.peer(), reason: cause.message });
  }

  #finish(end: ChannelEnd): void {
    if (this.#end) return;
    this.#end = end;
    this.#heartbeat.stop();
    this.#forgetSignal();
    this.#hangUp(end);
    this.#receipt.stop();
    if (end.by === "us") this.#inbox.clear();
    this.#inbox.end(end.error);
    this.#window.fail(this.#endError(end));
    this.#greeting?.reject(this.#endError(end));
    this.#announceEnd(end);
  }

  #hangUp({ by, reason, removed = false, error }: ChannelEnd): void {
    // Another version's peer finds out by itself, from our version.
    if (by === "us" && this.#greeted)
      this.#post(this.#options.side.goodbye(fittingText(reason, longestReason), removed));
    if (by === "peer" && error) this.#wire.cut();
    else this.#wire.end();
  }

  #endError({ by, reason, error }: ChannelEnd): StelliumError {
    if (error) return error;
    return by === "us" ? new StelliumError("ABORTED", { reason }) : this.#options.lost(`it left: ${reason}`);
  }
}

function versionMismatch(ours: [number, string], theirs: [number, string], peer: string): StelliumError {
  const name = ([protocol, stellium]: [number, string]) => `${protocol} (Stellium ${stellium})`;
  return new StelliumError("VERSION_MISMATCH", { ours: name(ours), theirs: name(theirs), peer });
}

function unexpected(reason: string): StelliumError {
  return new StelliumError("UNEXPECTED", { reason });
}
