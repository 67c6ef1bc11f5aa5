import { fileURLToPath } from "node:url";
import type { Engine } from "#stellium/engine/engine";
import { argmax, engineDefaults, logSoftmax } from "./oracle.ts";

export const demo = fileURLToPath(new URL("../../models/stellium-shakespeare-5m-q8_0.gguf", import.meta.url));
/** Long enough to be divided. */
export const prompt = Array.from({ length: 200 }, (_, i) => (i * 37 + 11) % 1000);
/** Some in both halves. */
export const outputs = 150;
export const options = { ...engineDefaults, outputs };

/** Logits of the last tokens of the prompt, by position. */
export async function logitsOf(engine: Engine): Promise<Float32Array[]> {
  const logits = await engine.step({ tokens: prompt, position: 0, outputs });
  const size = logits.length / outputs;
  return Array.from({ length: outputs }, (_, i) => logits.slice(i * size, (i + 1) * size));
}

/** How much the log-probabilities of the likeliest tokens differ, on average: single ones may be far off by rounding. */
export function difference(ours: readonly Float32Array[], theirs: readonly Float32Array[]): number {
  const differences = theirs.map((logits, i) => {
    const token = argmax(logits);
    return Math.abs(logSoftmax(ours[i]!)[token]! - logSoftmax(logits)[token]!);
  });
  return differences.reduce((sum, each) => sum + each) / outputs;
}
