/** Counts and times of a generation, named as llama.cpp's server does. Waiting for a slot is no part of them. */
export interface Timings {
  /** Prompt tokens that passed through the blocks; those the KV cache held already do not count. */
  prompt_n: number;
  prompt_ms: number;
  prompt_per_second: number;
  predicted_n: number;
  predicted_ms: number;
  predicted_per_second: number;
  /** Prompt tokens that the KV cache held already. */
  cache_n: number;
}

/** Takes the times of a generation. */
export class Clock {
  readonly #started = performance.now();
  #prompted = this.#started;
  readonly #prompt: { readonly prompt_n: number; readonly cache_n: number };

  /** Starts. @param reused - prompt tokens that the KV cache holds already */
  constructor(promptTokens: number, reused: number) {
    this.#prompt = { prompt_n: promptTokens - reused, cache_n: reused };
  }

  /** The prompt has passed through the blocks. */
  promptDone(): void {
    this.#prompted = performance.now();
  }

  timings(predicted_n: number): Timings {
    const [prompt_ms, predicted_ms] = [this.#prompted - this.#started, performance.now() - this.#prompted];
    const prompt_per_second = rate(this.#prompt.prompt_n, prompt_ms);
    const predicted_per_second = rate(predicted_n, predicted_ms);
    return { ...this.#prompt, prompt_ms, prompt_per_second, predicted_n, predicted_ms, predicted_per_second };
  }
}

function rate(count: number, ms: number): number {
  return ms > 0 ? (count * 1000) / ms : 0;
}
