/** Messages that nobody waits for yet. A peer that says more than this has something else in mind. */
const mostArrived = 1024;

/** A channel, as far as it is read here. */
export interface MessageStream<M> extends AsyncIterable<M> {
  close(reason: string): Promise<void>;
}

/** Any message of a channel. */
interface Typed {
  readonly type: string;
}

/**
 * Reads a channel to its end and hands out its messages by type, so that several parts of a program can each wait for
 * theirs. Messages of one type come in the order in which they were sent. Closes the channel where too many come that
 * nobody waits for.
 */
export class Mailbox<M extends Typed> {
  readonly #arrived: M[] = [];
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
    const index = this.#arrived.findIndex((message) => message.type === type);
    if (index >= 0) return Promise.resolve(this.#arrived.splice(index, 1)[0] as Extract<M, { type: T }>);
    if (this.#ended) return Promise.reject(this.#ended.error);
    return new Promise((resolve, reject) => {
      this.#waiting.push({ type, resolve: resolve as (message: M) => void, reject });
    });
  }

  async #read(messages: MessageStream<M>): Promise<void> {
    for await (const message of messages) {
      const index = this.#waiting.findIndex(({ type }) => type === message.type);
      if (index >= 0) this.#waiting.splice(index, 1)[0]!.resolve(message);
      else if (this.#arrived.push(message) > mostArrived) await messages.close("nobody waits for so many messages");
    }
  }

  #end(error: unknown): void {
    this.#ended = { error };
    for (const { reject } of this.#waiting.splice(0)) reject(error);
  }
}
