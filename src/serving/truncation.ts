import { type Candidates, selectAbove, selectTop, sortBestFirst } from "./candidates.ts";
import type { SamplingParameters } from "./samplingParameters.ts";

/** Leaves in `candidates` what top-k, top-p and min-p keep of the logits, whose highest finite value is `max`. */
export type Truncation = (logits: Float32Array, max: number, candidates: Candidates) => void;

/**
 * Top-k, then top-p, then min-p. The vocabulary is never sorted: with top-k the best are selected in a heap; without
 * it, top-p first finds a line below which its set cannot reach, and only what is above the line is sorted.
 */
export function createTruncation({ topK, topP, minP }: SamplingParameters): Truncation {
  const drop = Math.log(minP);
  const ofAll = topP < 1 ? createNucleusOfAll(topP, drop) : selectMinP(drop);
  return (logits, max, candidates) => {
    if (topK <= 0 || topK >= logits.length) return ofAll(logits, max, candidates);
    selectTop(logits, topK, candidates);
    if (topP < 1) cutNucleus(candidates, topP, mass(candidates, max));
    cutBelow(candidates, max + drop);
  };
}

function selectMinP(drop: number): Truncation {
  return (logits, max, candidates) => selectAbove(logits, max + drop, candidates);
}

/** Both cuts keep the best of a sorted list, so min-p can come first, provided that top-p counts the whole mass. */
function createNucleusOfAll(topP: number, drop: number): Truncation {
  const masses = new Float64Array(1024);
  return (logits, max, candidates) => {
    const total = measure(logits, max, masses);
    selectAbove(logits, Math.max(nucleusLine(masses, topP * total, max), max + drop), candidates);
    sortBestFirst(candidates);
    cutNucleus(candidates, topP, total);
  };
}

/** Width of a bucket of logits; 1024 of them reach 64 below the best, a probability of 1e-28. */
const bucketsPerUnit = 16;

/** Adds up exp(logit - max) by distance from `max`, and returns the sum of all. */
function measure(logits: Float32Array, max: number, masses: Float64Array): number {
  const last = masses.length - 1;
  let total = 0;
  masses.fill(0);
  for (let index = 0; index < logits.length; index++) {
    const distance = max - logits[index]!;
    if (!(distance >= 0 && distance < Infinity)) continue;
    const mass = Math.exp(-distance);
    masses[Math.min(last, Math.floor(distance * bucketsPerUnit))]! += mass;
    total += mass;
  }
  return total;
}

/** The lowest logit of the bucket in which the mass is reached; a margin covers what rounding could shift. */
function nucleusLine(masses: Float64Array, wanted: number, max: number): number {
  let sum = 0;
  for (let bucket = 0; bucket < masses.length - 1; bucket++) {
    sum += masses[bucket]!;
    if (sum >= wanted * (1 + 1e-9)) return max - (bucket + 1) / bucketsPerUnit;
  }
  return -Infinity;
}

/** Sum of exp(logit - max). */
function mass({ logits, size }: Candidates, max: number): number {
  let total = 0;
  for (let rank = 0; rank < size; rank++) total += Math.exp(logits[rank]! - max);
  return total;
}

/** Keeps the best until their share of `total` reaches `topP`; one stays in any case. */
function cutNucleus(candidates: Candidates, topP: number, total: number): void {
  const { logits } = candidates;
  let sum = 0;
  for (let rank = 0; rank < candidates.size; rank++) {
    sum += Math.exp(logits[rank]! - logits[0]!);
    if (sum >= topP * total) candidates.size = rank + 1;
  }
}

function cutBelow(candidates: Candidates, line: number): void {
  while (candidates.size > 1 && candidates.logits[candidates.size - 1]! < line) candidates.size--;
}
