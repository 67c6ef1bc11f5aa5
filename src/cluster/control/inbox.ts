interface Item<T> {
  readonly value: T;
  readonly release: () => void;
}

interface Taker<T> {
  readonly resolve: (result: IteratorResult<T, undefined>) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * What has arrived and waits for its one reader. An item counts as read when the reader asks for the one after it: then
 * its `release` is called.
 */
export class Inbox<T> implements AsyncIterableIterator<T, undefined> {
  readonly #items: Item<T>[] = [];
  #taker: Taker<T> | undefined;
  #release: (() => void) | undefined;
  #end: { readonly error?: unknown } | undefined;

  push(value: T, release: () => void): void {
    const taker = this.#taker;
    if (!taker) {
      this.#items.push({ value, release });
      return;
    }
    this.#taker = undefined;
    this.#release = release;
    taker.resolve({ done: false, value });
  }

  /** Nothing more will come: the reader gets what is there, and then the end, or `error`. */
  end(error?: unknown): void {
    this.#end ??= { error };
    const taker = this.#taker;
    this.#taker = undefined;
    if (taker) this.#ended().then(taker.resolve, taker.reject);
  }

  /** How many items nobody has read. */
  get length(): number {
    return this.#items.length;
  }

  /** Takes out all that nobody has read. */
  clear(): T[] {
    return this.#items.splice(0).map(({ value }) => value);
  }

  /** Takes out an item that nobody has read. Returns whether it was there. */
  remove(value: T): boolean {
    const at = this.#items.findIndex((item) => item.value === value);
    return at >= 0 && this.#items.splice(at, 1).length > 0;
  }

  next(): Promise<IteratorResult<T, undefined>> {
    this.#releaseLast();
    if (this.#taker) return Promise.reject(new Error("somebody else is reading already"));
    const item = this.#items.shift();
    if (item) {
      this.#release = item.release;
      return Promise.resolve({ done: false, value: item.value });
    }
    if (this.#end) return this.#ended();
    return new Promise((resolve, reject) => {
      this.#taker = { resolve, reject };
    });
  }

  /** Leaves the loop; a later loop goes on where this one stopped. */
  return(): Promise<IteratorResult<T, undefined>> {
    this.#releaseLast();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #ended(): Promise<IteratorResult<T, undefined>> {
    if (this.#end?.error !== undefined) return Promise.reject(this.#end.error);
    return Promise.resolve({ done: true, value: undefined });
  }

  #releaseLast(): void {
    const release = this.#release;
    this.#release = undefined;
    release?.();
  }
}
