import { expect } from "vitest";
import type { Engine } from "#stellium/engine/engine";
import type { EngineOptions } from "#stellium/engine/protocol";
import type { ModelDescription } from "#stellium/model/describeModel";
import { rankDescription } from "#stellium/plan/rankDescription";
import { planShares } from "#stellium/plan/shares";
import { engineDefaults } from "../engine/oracle.ts";

/** What models that are computed value by value are asked about. */
export const text = Array.from({ length: 96 }, (_, i) => (i * 53 + 7) % 300);
/** F32 throughout, so that nothing but the order of sums differs from values computed one by one. */
export const exact: EngineOptions = {
  ...engineDefaults,
  ...{ kvType: "f32", context: 128, batch: 128, slots: 2, outputs: 4 },
};
export const rounding = 2e-3;

/**
 * Prompts of two sequences in one pass, which ranks divide, and then tokens of both side by side.
 *
 * @param expected - logits after each token of `text`
 */
export async function followsPlain(first: Engine, expected: readonly number[][]): Promise<void> {
  const starts = [70, 40];
  const prompts = starts.map((end, slot) => ({ slot, tokens: text.slice(0, end), position: 0, outputs: 1 }));
  compare(await first.step(prompts), expected, starts);
  for (let i = 0; i < 3; i++) {
    const at = starts.map((start) => start + i);
    const next = at.map((position, slot) => ({ slot, tokens: [text[position]!], position, outputs: 1 }));
    const counts = at.map((position) => position + 1);
    compare(await first.step(next), expected, counts);
  }
}

/** @param counts - of the tokens before each row of logits */
function compare(logits: Float32Array, expected: readonly number[][], counts: readonly number[]): void {
  const width = logits.length / counts.length;
  for (const [row, count] of counts.entries()) {
    expect(farthest(expected[count - 1]!, logits.subarray(row * width, (row + 1) * width))).toBeLessThan(rounding);
  }
}

/** The largest difference of two rows. */
export function farthest(a: readonly number[], b: ArrayLike<number>): number {
  return Math.max(...a.map((value, i) => Math.abs(value - b[i]!)));
}

/** A model as ranks with these shares run it, for their engines to start with. */
export function described(whole: ModelDescription, shares: readonly number[]) {
  return shares.map((_, rank) => ({ description: rankDescription(whole, planShares(whole, shares), rank) }));
}
