import { Candidates, selectTop } from "./candidates.ts";

/** A token and the natural logarithm of its probability. */
export interface TokenLogprob {
  token: number;
  logprob: number;
}

/** The logarithm of the chosen token's probability, and the most likely tokens, best first. */
export interface Logprobs extends TokenLogprob {
  top: TokenLogprob[];
}

/**
 * Log-softmax of the model's own logits, before bias, penalties and temperature.
 *
 * @param top how many of the most likely tokens to list
 */
export function computeLogprobs(logits: Float32Array, token: number, top: number): Logprobs {
  const best = new Candidates();
  selectTop(logits, Math.max(top, 1), best);
  const shift = best.logits[0]! + Math.log(sumOfExponentials(logits, best.logits[0]!));
  const ids = Array.from(best.ids.subarray(0, Math.min(top, best.size)));
  return {
    token,
    logprob: (logits[token] ?? Number.NaN) - shift,
    top: ids.map((id, rank) => ({ token: id, logprob: best.logits[rank]! - shift })),
  };
}

/** Sum of exp(logit - max) over the finite logits. */
function sumOfExponentials(logits: Float32Array, max: number): number {
  let sum = 0;
  for (let index = 0; index < logits.length; index++) {
    if (logits[index]! <= max) sum += Math.exp(logits[index]! - max);
  }
  return sum;
}
