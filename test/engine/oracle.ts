import { readFileSync } from "node:fs";
import { expect } from "vitest";
import { Engine } from "#stellium/engine/engine";
import type { EngineOptions } from "#stellium/engine/protocol";
import { describe } from "#stellium/model/support";
import { rankDescription } from "#stellium/plan/rankDescription";
import { planShares } from "#stellium/plan/shares";
import { readGguf } from "#stellium/weights/gguf/reader";

/** What llama.cpp wrote after a prompt, greedily, and its five most likely tokens at each position. */
export interface ReferenceRun {
  prompt: number[];
  tokens: number[];
  /** `[token, log-probability]`, best first. */
  top: [number, number][][];
}

/** A file of test/references, made by `node bench/main.mjs references`. */
export interface References {
  made: { systemInfo: string };
  models: { file?: string; generator?: GeneratorArguments; sha256: string; runs: ReferenceRun[] }[];
}

export interface GeneratorArguments {
  shape: string;
  type: string;
  seed: number;
}

export function readReferences(name: string): References {
  return JSON.parse(readFileSync(new URL(`../references/${name}.json`, import.meta.url), "utf8"));
}

/** Options for small models. */
export const engineDefaults: EngineOptions = {
  threads: 1,
  poll: 50,
  context: 512,
  batch: 512,
  kvType: "f16",
  outputs: 1,
  graphs: "whole",
};

/** Starts an engine on a model, with options of a small test where none are given. */
export async function startEngine(path: string, options: Partial<EngineOptions> = {}): Promise<Engine> {
  const whole = describe(await readGguf(path));
  const description = rankDescription(whole, planShares(whole, [1]), 0);
  return Engine.start({ description, options: { ...engineDefaults, ...options } });
}

/** Whether two CPUs use the same instructions, so that llama.cpp's tokens on one are those on the other to the bit. */
export function sameInstructions(engine: Engine, made: References["made"]): boolean {
  const theirs = [...made.systemInfo.matchAll(/(\w+) = 1/g)].map((match) => match[1]!);
  return [...engine.ready.features].sort().join() === theirs.sort().join();
}

/** A position at which our most likely token is another than llama.cpp's. */
export interface Divergence {
  position: number;
  /** Largest difference of log-probability over the tokens that both sides consider. */
  difference: number;
}

/**
 * Follows llama.cpp's tokens and compares the most likely token at each position with theirs. Where one differs, it goes
 * on with theirs, so that every position is compared on the same past.
 */
export async function divergences(engine: Engine, run: ReferenceRun): Promise<Divergence[]> {
  const found: Divergence[] = [];
  let logits = await engine.step({ tokens: run.prompt, position: 0, outputs: 1 });
  for (const [position, token] of run.tokens.entries()) {
    const best = argmax(logits);
    if (best !== token) found.push({ position, difference: largestDifference(logits, run.top[position]!) });
    logits = await engine.step({ tokens: [token], position: run.prompt.length + position, outputs: 1 });
  }
  return found;
}

/**
 * How far two rows of values are apart: the root of their mean squared difference. Kernels for other batches, threads and
 * layouts round otherwise, and with quantized activations a few of a thousand logits differ by several times as much as
 * all do together, so that the largest difference says less.
 */
export function distance(a: Float32Array, b: Float32Array): number {
  expect(a.length).toBe(b.length);
  return Math.sqrt(a.reduce((sum, value, i) => sum + (value - b[i]!) ** 2, 0) / a.length);
}

/**
 * The distance up to which two rows of the bundled model's logits count as the same. Rounding makes up to 0.14 (ggml's x64
 * variant; 0.09 by AVX-512); rows of different sequences are 2.1 apart and more.
 */
export const roundingDistance = 0.3;

/** Log-probabilities of all tokens. */
export function logSoftmax(logits: Float32Array): Float64Array {
  const max = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const sum = logits.reduce((total, logit) => total + Math.exp(logit - max), 0);
  return Float64Array.from(logits, (logit) => logit - max - Math.log(sum));
}

export function argmax(logits: Float32Array): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i;
  return best;
}

function largestDifference(logits: Float32Array, top: [number, number][]): number {
  const ours = logSoftmax(logits);
  return Math.max(...top.slice(0, 2).map(([token, logprob]) => Math.abs(ours[token]! - logprob)));
}
