import { StelliumError } from "../errors.ts";
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
}

/**
 * The mean of the final hidden states of all tokens (behind the last norm), scaled to a length of 1, as llama.cpp's
 * server does with `--pooling mean`. Throws what `generate` throws.
 */
export async function embed(
  model: EmbeddingModel,
  tokens: ArrayLike<number>,
  signal?: AbortSignal,
): Promise<Float32Array> {
  const pooling = new MeanPooling(model, tokens);
  const { scheduler } = model;
  const stop = () => scheduler.cancel(pooling, String(signal?.reason));
  if (signal?.aborted) throw new StelliumError("ABORTED", { reason: String(signal.reason) });
  signal?.addEventListener("abort", stop);
  try {
    scheduler.submit(pooling);
    return await pooling.result;
  } finally {
    signal?.removeEventListener("abort", stop);
  }
}

/** Adds up the hidden states of a text. */
class MeanPooling implements Task {
  readonly wants = "hidden";
  readonly generatedTokens = 0;
  readonly tokens: number[];
  readonly promptTokens: number;
  readonly rowLength: number;
  readonly result: Promise<Float32Array>;
  readonly #sums: Float64Array;
  #rows = 0;
  #resolve: (embedding: Float32Array) => void = () => {};
  #reject: (error: unknown) => void = () => {};

  constructor({ context, vocabularySize, embeddingLength }: EmbeddingModel, tokens: ArrayLike<number>) {
    checkPrompt(tokens, vocabularySize);
    if (tokens.length > context) {
      throw new StelliumError("CONTEXT_EXCEEDED", { prompt: tokens.length, predict: 0, context });
    }
    this.tokens = Array.from(tokens);
    this.promptTokens = tokens.length;
    this.rowLength = embeddingLength;
    this.#sums = new Float64Array(embeddingLength);
    this.result = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  admit(): void {}

  advance(rows: Float32Array): boolean {
    for (let i = 0; i < rows.length; i++) this.#sums[i % this.rowLength]! += rows[i]!;
    this.#rows += rows.length / this.rowLength;
    if (this.#rows < this.tokens.length) return true;
    this.#resolve(normalized(this.#sums));
    return false;
  }

  fail(error: unknown): void {
    this.#reject(error);
  }
}

/** Scaled to a Euclidean length of 1: what the sum was divided by before makes no difference. */
function normalized(values: Float64Array): Float32Array {
  const length = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0)) || 1;
  return Float32Array.from(values, (value) => value / length);
}
