import { createStopScanner } from "./stopStrings.ts";
import { createTextStream } from "./textStream.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** What a token adds to the text that may be shown, and whether it was the last one. */
export interface Written {
  readonly text: string;
  readonly ended: boolean;
}

/** Turns tokens into text that may be shown, and knows when to end. */
export class TextWriter {
  readonly #tokenizer: Tokenizer;
  readonly #stream = createTextStream();
  readonly #scanner: ReturnType<typeof createStopScanner>;
  readonly #visible: ReadonlySet<number>;
  #stopped = false;

  /**
   * @param stop - texts that end it, and are no part of it
   * @param visible - control tokens that are part of it
   */
  constructor(tokenizer: Tokenizer, stop: readonly string[], visible: ReadonlySet<number>) {
    this.#tokenizer = tokenizer;
    this.#scanner = createStopScanner(stop);
    this.#visible = visible;
  }

  /** Whether an end-of-generation token or a stop string came. */
  get stopped(): boolean {
    return this.#stopped;
  }

  /**
   * Takes a token.
   *
   * @param endOfGeneration - whether it is one that ends the text, and has none itself
   * @param last - whether none will follow
   */
  push(token: number, endOfGeneration: boolean, last: boolean): Written {
    const bytes = this.#tokenizer.pieceBytes(token, { special: this.#visible.has(token) });
    const scanned = this.#scanner.push(this.#stream.push(endOfGeneration ? new Uint8Array(0) : bytes));
    this.#stopped = endOfGeneration || scanned.stop !== undefined;
    if (!this.#stopped && !last) return { text: scanned.text, ended: false };
    const rest =
      scanned.stop === undefined ? this.#scanner.push(this.#stream.flush()).text + this.#scanner.flush() : "";
    return { text: scanned.text + rest, ended: true };
  }
}
