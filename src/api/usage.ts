import type { GenerationResult, Timings } from "../serving/generation.ts";

/** Counts of tokens, as OpenAI's API writes them. */
export interface Usage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
  readonly prompt_tokens_details: { readonly cached_tokens: number };
}

/** What generations took, all together. */
export function usageOf(results: readonly GenerationResult[]): Usage {
  const sum = (count: (timings: Timings) => number) =>
    results.reduce((total, { timings }) => total + count(timings), 0);
  const prompt = sum(({ prompt_n, cache_n }) => prompt_n + cache_n);
  const completion = sum(({ predicted_n }) => predicted_n);
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: { cached_tokens: sum(({ cache_n }) => cache_n) },
  };
}
