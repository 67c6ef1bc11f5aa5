import { createInterface, type Interface } from "node:readline";

/** What a person did at the prompt. */
export type Input = { readonly line: string } | "interrupted" | "ended";

/**
 * Lines typed in a terminal. Prompts go to stderr. Between prompts the terminal is in its usual mode, so that Ctrl-C is
 * a signal there; lines that come early are kept for the next prompt.
 */
export class LineInput implements Disposable {
  readonly #interface: Interface;
  readonly #inputs: Input[] = [];
  #waiting: ((input: Input) => void) | undefined;
  #ended = false;

  /** `signal` ends the input. */
  constructor(signal: AbortSignal) {
    const terminal = process.stdin.isTTY === true && process.stderr.isTTY === true;
    this.#interface = createInterface({ input: process.stdin, output: process.stderr, terminal, signal });
    this.#interface.on("line", (line) => this.#receive({ line }));
    this.#interface.on("SIGINT", () => this.#receive("interrupted"));
    this.#interface.on("close", () => {
      this.#ended = true;
      this.#receive("ended");
    });
    this.#rest();
  }

  /** Prompts for a line. */
  async read(prompt: string): Promise<Input> {
    const early = this.#inputs.shift();
    if (early !== undefined || this.#ended) return early ?? "ended";
    this.#setRaw(true);
    this.#interface.setPrompt(prompt);
    this.#interface.prompt();
    const input = await new Promise<Input>((resolve) => {
      this.#waiting = resolve;
    });
    if (input === "interrupted") this.#discardLine();
    if (!this.#ended) this.#rest();
    return input;
  }

  [Symbol.dispose](): void {
    this.#interface.close();
  }

  #receive(input: Input): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (waiting === undefined) this.#inputs.push(input);
    else waiting(input);
  }

  #discardLine(): void {
    this.#interface.write(null, { ctrl: true, name: "e" });
    this.#interface.write(null, { ctrl: true, name: "u" });
    process.stderr.write("\n");
  }

  #rest(): void {
    this.#interface.pause();
    this.#setRaw(false);
  }

  #setRaw(raw: boolean): void {
    if (this.#interface.terminal) process.stdin.setRawMode(raw);
  }
}
