import { randomInt } from "node:crypto";
import { StelliumError } from "../errors.ts";
import { Candidates } from "./candidates.ts";
import type { TokenConstraint } from "./grammar/constraint.ts";
import { createLogitAdjustments } from "./logitAdjustments.ts";
import { computeLogprobs, type Logprobs } from "./logprobs.ts";
import { createRandom, type Random } from "./random.ts";
import { type SamplingParameters, validateSampling } from "./samplingParameters.ts";
import { createTruncation } from "./truncation.ts";

export type { Logprobs, TokenLogprob } from "./logprobs.ts";
export { defaultSampling, type SamplingParameters, validateSampling } from "./samplingParameters.ts";

/** Chooses the tokens of one sequence. */
export interface Sampler {
  /** The seed in use: the given one, or the random one that was picked. */
  readonly seed: number;
  /**
   * Chooses a token; `logits` (one per token of the vocabulary) is the same afterwards. NaN and infinite logits are never
   * chosen.
   *
   * @throws StelliumError `ENGINE_FAILED` if no logit is finite
   */
  sample(logits: Float32Array): number;
  /** Tells the penalties that a token, of the prompt or sampled, is part of the sequence. */
  accept(token: number): void;
  /** Log-softmax of the unchanged logits for `token` and the `top` most likely tokens, best first. */
  logprobs(logits: Float32Array, token: number, top: number): Logprobs;
}

/** Chooses the tokens of a sequence that is held to a grammar: each is the next one of it. */
export interface ConstrainedSampler extends Omit<Sampler, "sample"> {
  /**
   * Chooses a token, as `Sampler` does. Where the grammar does not allow the first choice, choosing takes its time, in
   * which other things run; what it needs of `logits` it has copied when it returns.
   *
   * @throws StelliumError also `GRAMMAR_INVALID` if the grammar allows no token
   */
  sample(logits: Float32Array): number | Promise<number>;
}

/**
 * The chain of llama.cpp: logit bias, penalties, top-k, top-p, min-p, temperature, draw. With a `constraint`, what was
 * chosen is looked at first: only where it is not allowed, all other tokens are looked at as well, and those that are
 * not allowed are left out of the chain.
 *
 * @throws StelliumError `BAD_USAGE` for a parameter out of range
 */
export function createSampler(parameters: SamplingParameters): Sampler;
export function createSampler(parameters: SamplingParameters, constraint?: TokenConstraint): ConstrainedSampler;
export function createSampler(parameters: SamplingParameters, constraint?: TokenConstraint): ConstrainedSampler {
  validateSampling(parameters);
  const seed = parameters.seed ?? randomInt(2 ** 32);
  const adjustments = createLogitAdjustments(parameters);
  const chooseAny = parameters.temperature === 0 ? greedy : createDraw(parameters, createRandom(seed));
  const choose = constraint ? constrained(chooseAny, constraint) : chooseAny;
  const sample = (logits: Float32Array) => {
    adjustments.apply(logits);
    try {
      return choose(logits);
    } finally {
      adjustments.restore(logits);
    }
  };
  return { seed, sample, accept: adjustments.accept, logprobs: computeLogprobs };
}

function constrained(choose: (logits: Float32Array) => number, constraint: TokenConstraint) {
  let masked = new Float32Array(0);
  const chooseAgain = async (logits: Float32Array) => {
    if (masked.length !== logits.length) masked = new Float32Array(logits.length);
    masked.set(logits);
    await constraint.mask(masked);
    const token = choose(masked);
    constraint.accept(token);
    return token;
  };
  return (logits: Float32Array) => {
    const first = choose(logits);
    if (!constraint.allows(first)) return chooseAgain(logits);
    constraint.accept(first);
    return first;
  };
}

/** The first of the highest finite logits. */
function greedy(logits: Float32Array): number {
  let best = -1;
  let max = -Infinity;
  for (let index = 0; index < logits.length; index++) {
    const logit = logits[index]!;
    if (logit > max && logit !== Infinity) {
      max = logit;
      best = index;
    }
  }
  if (best < 0) throw new StelliumError("ENGINE_FAILED", { reason: "no logit is a finite number" });
  return best;
}

function createDraw(parameters: SamplingParameters, random: Random): (logits: Float32Array) => number {
  const truncate = createTruncation(parameters);
  const candidates = new Candidates();
  const { temperature } = parameters;
  let weights = new Float64Array(0);
  return (logits) => {
    const max = logits[greedy(logits)]!;
    truncate(logits, max, candidates);
    if (weights.length < candidates.size) weights = new Float64Array(candidates.ids.length);
    const total = weigh(candidates, max, temperature, weights);
    return candidates.ids[pick(weights, candidates.size, random.uniform() * total)]!;
  };
}

/** Fills `weights` with exp((logit - max) / temperature) and returns their sum. */
function weigh(candidates: Candidates, max: number, temperature: number, weights: Float64Array): number {
  let total = 0;
  for (let rank = 0; rank < candidates.size; rank++) {
    const weight = Math.exp((candidates.logits[rank]! - max) / temperature);
    weights[rank] = weight;
    total += weight;
  }
  return total;
}

/** The first rank at which the sum of weights exceeds `point`. */
function pick(weights: Float64Array, size: number, point: number): number {
  let sum = 0;
  for (let rank = 0; rank < size - 1; rank++) {
    sum += weights[rank]!;
    if (sum > point) return rank;
  }
  return size - 1;
}
