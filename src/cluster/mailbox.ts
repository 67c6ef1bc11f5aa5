/** Messages that nobody waits for yet, and their bytes. A peer that says more than this has something else in mind. */
const mostArrived = 1024;
const mostArrivedBytes = 16 * 2 ** 20;

/** A channel, as far as it is read here. */
export interface MessageStream<M> extends AsyncIterable<M> {
  close(reason: string): Promise<void>;
}

/** Any message of a channel. */
interface Typed {
  readonly type: string;
  /** Of a data frame. */
  readonly bytes?: unknown;
}

interface Arrived<M> {
  readonly message: M;
  readonly bytes: number;
}

/**
 * Reads a channel to its end and hands out its messages by type, so that several parts of a program can each wait for
 * theirs. Messages of one type come in the order in which they were sent. Closes the channel where too many come that
 * nobody waits for.
 */
export class Mailbox<M extends Typed> {
  readonly #arrived: Arrived<M>[] = [];
  #arrivedBytes = 0;
  readonly #waiting: { readonly type: string; resolve(message: M): void; reject(error: unknown): void }[] = [];
  #ended: { readonly error: unknown } | undefined;

  /** @param endError - what those are told who wait when the channel is closed on purpose */
  constructor(messages: MessageStream<M>, endError: () => Error) {
    this.#read(messages).then(
      () => this.#end(endError()),
      (error: unknown) => this.#end(error),
    );
  }

  /** The next message of a type. Rejects when the channel ends before. */
  take<T extends M["type"]>(type: T): Promise<Extract<M, { type: T }>> {
    const index = this.#arrived.findIndex(({ message }) => message.type === type);
    if (index >= 0) return Promise.resolve(this.#unwrap(index) as Extract<M, { type: T }>);
    if (this.#ended) return Promise.reject(this.#ended.error);
    return new Promise((resolve, reject) => {
      this.#waiting.push({ type, resolve: resolve as (message: M) => void, reject });
    });
  }

  async #read(messages: MessageStream<M>): Promise<void> {
    for await (const message of messages) {
      const index = this.#waiting.findIndex(({ type }) => type === message.type);
      if (index >= 0) this.#waiting.splice(index, 1)[0]!.resolve(message);
      else if (!this.#keep(message)) await messages.close("nobody waits for so many messages");
    }
  }

  /** Returns whether that is not too much. */
  #keep(message: M): boolean {
    const bytes = bytesOf(message);
    this.#arrivedBytes += bytes;
    const fits = this.#arrivedBytes <= mostArrivedBytes && this.#arrived.length < mostArrived;
    if (fits) this.#arrived.push({ message, bytes });
    return fits;
  }

  #unwrap(index: number): M {
    const { message, bytes } = this.#arrived.splice(index, 1)[0]!;
    this.#arrivedBytes -= bytes;
    return message;
  }

  #end(error: unknown): void {
    this.#ended = { error };
    for (const { reject } of this.#waiting.splice(0)) reject(error);
  }
}

function bytesOf(message: Typed): number {
  return message.bytes instanceof Uint8Array ? message.bytes.length : JSON.stringify(message).length;
}
