/** A sequence that passes through the blocks, as the scheduler sees it. */
export interface Task {
  /** What the KV cache is to hold: the prompt, and what was generated. It grows as the task goes on. */
  readonly tokens: readonly number[];
  readonly promptTokens: number;
  readonly generatedTokens: number;
  /** Logits of the last token, or hidden states of every token. */
  readonly wants: "logits" | "hidden";
  /** Values of a row: the vocabulary's size, or the embedding length. */
  readonly rowLength: number;
  /** Memory that it takes while it waits for a slot, in bytes. */
  readonly bytes: number;
  /** Told when it gets a slot, and how many of its tokens that holds already. */
  admit(reused: number): void;
  /**
   * Takes the rows it wanted, valid until it returns. Returns whether it goes on; where that takes its time, steps of the
   * other tasks are taken meanwhile.
   */
  advance(rows: Float32Array): boolean | Promise<boolean>;
  /** Told that it ends here. */
  fail(error: unknown): void;
}
