import { StelliumError } from "../errors.ts";
import type { Pooling } from "../model/hyperparameters.ts";
import { checkPrompt } from "./generation.ts";
import type { Scheduler } from "./scheduler.ts";
import type { Task } from "./task.ts";

/** What embeddings need of a model. */
export interface EmbeddingModel {
  readonly scheduler: Scheduler;
  /** Tokens a sequence may have. */
  readonly context: number;
  readonly vocabularySize: number;
  /** Values of a hidden state. */
  readonly embeddingLength: number;
  readonly pooling: Pooling;
}

/**
 * The embedding of a text: its final hidden states (after the last norm), pooled as the model says and scaled to a length
 * of 1. A model that states no pooling gets the mean, as llama.cpp's server does with `--pooling mean`. Throws what
 * `generate` throws.
 */
export async function embed(
  model: EmbeddingModel,
  tokens: ArrayLike<number>,
  signal?: AbortSignal,
): Promise<Float32Array> {
  const text = new PooledText(model, tokens);
  const { scheduler } = model;
  const stop = () => scheduler.cancel(text, String(signal?.reason));
  if (signal?.aborted) throw new StelliumError("ABORTED", { reason: String(signal.reason) });
  signal?.addEventListener("abort", stop);
  try {
    scheduler.submit(text);
    return await text.result;
  } finally {
    signal?.removeEventListener("abort", stop);
  }
}

/** Adds up those hidden states of a text that its embedding is made of. */
class PooledText implements Task {
  readonly wants = "hidden";
  readonly generatedTokens = 0;
  readonly tokens: number[];
  readonly promptTokens: number;
  readonly rowLength: number;
  readonly result: Promise<Float32Array>;
  readonly #pooling: Pooling;
  readonly #sums: Float64Array;
  #rows = 0;
  #resolve: (embedding: Float32Array) => void = () => {};
  #reject: (error: unknown) => void = () => {};

  constructor({ context, vocabularySize, embeddingLength, pooling }: EmbeddingModel, tokens: ArrayLike<number>) {
    checkPrompt(tokens, vocabularySize);
    if (tokens.length > context) {
      throw new StelliumError("CONTEXT_EXCEEDED", { prompt: tokens.length, predict: 0, context });
    }
    this.tokens = Array.from(tokens);
    this.promptTokens = tokens.length;
    this.rowLength = embeddingLength;
    this.#pooling = pooling;
    this.#sums = new Float64Array(embeddingLength);
    this.result = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  get bytes(): number {
    return this.tokens.length * Float64Array.BYTES_PER_ELEMENT;
  }

  admit(): void {}

  advance(rows: Float32Array): boolean {
    for (let at = 0; at < rows.length; at += this.rowLength, this.#rows++) {
      if (!this.#counts(this.#rows)) continue;
      for (let i = 0; i < this.rowLength; i++) this.#sums[i]! += rows[at + i]!;
    }
    if (this.#rows < this.tokens.length) return true;
    this.#resolve(normalized(this.#sums));
    return false;
  }

  fail(error: unknown): void {
    this.#reject(error);
  }

  /** Whether the hidden state of a token, counted from 0, is part of the embedding. */
  #counts(token: number): boolean {
    if (this.#pooling === "mean") return true;
    return token === (this.#pooling === "cls" ? 0 : this.tokens.length - 1);
  }
}

/** Scaled to a Euclidean length of 1: what the sum was divided by before makes no difference. */
function normalized(values: Float64Array): Float32Array {
  const length = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0)) || 1;
  return Float32Array.from(values, (value) => value / length);
}
