import { StelliumError } from "../errors.ts";

/** Times of a stream, in milliseconds. */
export interface StreamTimes {
  /** A comment is sent where nothing else was for so long. */
  readonly pingMs: number;
  /** A client that leaves something unread for so long is cut off. */
  readonly stallMs: number;
}

const encoder = new TextEncoder();

/**
 * Server-sent events on their way to one client. What the client has not read yet is kept here, so a slow client holds
 * nobody up, and one that stops reading is cut off.
 */
export class EventStream {
  /** The body of the response. */
  readonly body: ReadableStream<Uint8Array>;
  /** Settles with the first event. */
  readonly begun: Promise<void>;
  readonly #times: StreamTimes;
  readonly #gone = new AbortController();
  #begin!: () => void;
  #controller!: ReadableStreamDefaultController<Uint8Array>;
  #unread: string[] = [];
  /** Set while the client waits for more. */
  #wanted: (() => void) | undefined;
  #pingTimer: NodeJS.Timeout | undefined;
  #stallTimer: NodeJS.Timeout | undefined;
  #ended = false;
  #closed = false;

  constructor(times: StreamTimes) {
    this.#times = times;
    this.begun = new Promise((resolve) => {
      this.#begin = resolve;
    });
    this.body = new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          this.#controller = controller;
        },
        pull: () => this.#pull(),
        cancel: () => this.#close("the client left"),
      },
      { highWaterMark: 0 },
    );
    this.#armPing();
  }

  /** Aborted when the client has left or was cut off. */
  get gone(): AbortSignal {
    return this.#gone.signal;
  }

  /** Sends an event: `data` as JSON, or as it is where it is a text. */
  send(data: unknown, event?: string): void {
    const name = event === undefined ? "" : `event: ${event}\n`;
    this.#push(`${name}data: ${typeof data === "string" ? data : JSON.stringify(data)}\n\n`);
    this.#begin();
  }

  /** Ends the stream behind what was sent. */
  end(): void {
    this.#ended = true;
    clearTimeout(this.#pingTimer);
    this.#flush();
  }

  /** Forgets a stream that nobody was given. */
  discard(): void {
    this.#close("there is no answer");
  }

  #push(text: string): void {
    if (this.#ended || this.#closed) return;
    this.#unread.push(text);
    this.#flush();
  }

  #pull(): Promise<void> | undefined {
    const more = new Promise<void>((resolve) => {
      this.#wanted = resolve;
    });
    this.#flush();
    return more;
  }

  /** Hands all there is to a client that waits; has one that does not wait watched. */
  #flush(): void {
    if (this.#closed) return;
    if (this.#wanted === undefined) this.#watch();
    else if (this.#unread.length > 0) this.#deliver(this.#wanted);
    else if (this.#ended) this.#finish(this.#wanted);
  }

  #deliver(wanted: () => void): void {
    clearTimeout(this.#stallTimer);
    this.#stallTimer = undefined;
    this.#wanted = undefined;
    this.#controller.enqueue(encoder.encode(this.#unread.join("")));
    this.#unread = [];
    if (!this.#ended) this.#armPing();
    wanted();
  }

  #finish(wanted: () => void): void {
    this.#closed = true;
    clearTimeout(this.#stallTimer);
    this.#controller.close();
    wanted();
  }

  #watch(): void {
    const { stallMs } = this.#times;
    this.#stallTimer ??= setTimeout(() => this.#cutOff(), stallMs).unref();
  }

  #cutOff(): void {
    if (this.#closed) return;
    const error = new StelliumError("CLIENT_STALLED", { seconds: this.#times.stallMs / 1000 });
    this.#controller.error(error);
    this.#close(error.message);
  }

  #close(reason: string): void {
    this.#closed = true;
    this.#unread = [];
    clearTimeout(this.#pingTimer);
    clearTimeout(this.#stallTimer);
    this.#gone.abort(reason);
  }

  #armPing(): void {
    clearTimeout(this.#pingTimer);
    this.#pingTimer = setTimeout(() => this.#ping(), this.#times.pingMs).unref();
  }

  #ping(): void {
    if (this.#wanted === undefined) this.#armPing();
    else this.#push(": ping\n\n");
  }
}
