const encoder = new TextEncoder();

/**
 * Server-sent events on their way to one client. What the client has not read yet is kept here, so a slow client holds
 * nobody up; the server cuts off one that stops reading.
 */
export class EventStream {
  /** The body of the response. */
  readonly body: ReadableStream<Uint8Array>;
  /** Settles with the first event. */
  readonly begun: Promise<void>;
  readonly #pingMs: number;
  readonly #gone = new AbortController();
  #begin!: () => void;
  #controller!: ReadableStreamDefaultController<Uint8Array>;
  #unread: string[] = [];
  /** Set while the client waits for more. */
  #wanted: (() => void) | undefined;
  #pingTimer: NodeJS.Timeout | undefined;
  #ended = false;
  #closed = false;

  /** @param pingMs - a comment is sent where nothing else was for so long */
  constructor(pingMs: number) {
    this.#pingMs = pingMs;
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

  /** Whether the client has taken all that was sent. */
  get isRead(): boolean {
    return this.#unread.length === 0;
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

  /** Hands all there is to a client that waits. */
  #flush(): void {
    if (this.#closed || this.#wanted === undefined) return;
    if (this.#unread.length > 0) this.#deliver(this.#wanted);
    else if (this.#ended) this.#finish(this.#wanted);
  }

  #deliver(wanted: () => void): void {
    this.#wanted = undefined;
    this.#controller.enqueue(encoder.encode(this.#unread.join("")));
    this.#unread = [];
    if (!this.#ended) this.#armPing();
    wanted();
  }

  #finish(wanted: () => void): void {
    this.#closed = true;
    this.#controller.close();
    wanted();
  }

  #close(reason: string): void {
    this.#closed = true;
    this.#unread = [];
    clearTimeout(this.#pingTimer);
    this.#gone.abort(reason);
  }

  #armPing(): void {
    clearTimeout(this.#pingTimer);
    this.#pingTimer = setTimeout(() => this.#ping(), this.#pingMs).unref();
  }

  #ping(): void {
    if (this.#wanted === undefined) this.#armPing();
    else this.#push(": ping\n\n");
  }
}
