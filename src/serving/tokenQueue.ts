/**
 * What a task says to its reader, who may be slower: then it is kept. A reader that never comes costs no more than the
 * tokens that its request may write, and holds up nobody.
 */
export class TokenQueue<Item, Result> {
  readonly #items: Item[] = [];
  #end: { readonly result: Result } | { readonly error: unknown } | undefined;
  #wake: () => void = () => {};

  push(item: Item): void {
    this.#items.push(item);
    this.#wake();
  }

  /** Nothing follows but the result. */
  finish(result: Result): void {
    this.#end ??= { result };
    this.#wake();
  }

  /** Nothing follows but the error. */
  fail(error: unknown): void {
    this.#end ??= { error };
    this.#wake();
  }

  /** Yields items until there are no more; one reader at a time. Throws what `fail` was given. */
  async *read(): AsyncGenerator<Item, Result> {
    for (;;) {
      const item = this.#items.shift();
      if (item !== undefined) yield item;
      else if (this.#end === undefined) await this.#woken();
      else if ("error" in this.#end) throw this.#end.error;
      else return this.#end.result;
    }
  }

  async #woken(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
  }
}
