import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { weightBytes } from "#stellium/plan/memory";
import { generateModel } from "../../bench/generateModel.mjs";
import { engineDefaults } from "./oracle.ts";
import { Ranks } from "./ranks.ts";

const demo = fileURLToPath(new URL("../../models/stellium-shakespeare-5m-q8_0.gguf", import.meta.url));
const prompt = Array.from({ length: 40 }, (_, i) => (i * 37 + 11) % 250);
const options = { ...engineDefaults, outputs: 8 };
let folder: string;
let tied: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "stellium-test-"));
  tied = join(folder, "tied.gguf");
  await generateModel({ path: tied, shape: "tiny-llama-tied", type: "Q4_0", seed: 3 });
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Logits behind the prompt and behind some more tokens, of one token and of several at once. */
async function logitsOf({ first }: Ranks): Promise<Float32Array[]> {
  const steps = [
    { tokens: prompt, position: 0, outputs: 1 },
    { tokens: [7], position: 40, outputs: 1 },
    { tokens: [9, 11, 13, 15, 17], position: 41, outputs: 3 },
    { tokens: prompt, position: 46, outputs: 0 },
    { tokens: [5], position: 86, outputs: 1 },
  ];
  const logits: Float32Array[] = [];
  for (const step of steps) logits.push(Float32Array.from(await first.step(step)));
  return logits;
}

/** The largest difference between logits of the same step. */
function largestDifference(a: Float32Array[], b: Float32Array[]): number {
  expect(a.map(({ length }) => length)).toEqual(b.map(({ length }) => length));
  return Math.max(...a.flatMap((logits, i) => Array.from(logits, (logit, j) => Math.abs(logit - b[i]![j]!))));
}

describe("a head that is sharded", () => {
  it.each([[[1, 1]], [[1, 0]], [[0, 1]], [[2, 1, 3]], [[0, 1, 1]], [[3, 0, 1, 1, 2]], [[1, 1, 1, 1, 1]]])(
    "in proportion %j gives the logits of one that is not",
    async (shares) => {
      await using whole = await Ranks.start(demo, shares, options);
      await using sharded = await Ranks.start(demo, shares, options, { head: "sharded" });
      // Hidden states have the same bits; only the layout of a few rows may be another.
      expect(largestDifference(await logitsOf(sharded), await logitsOf(whole))).toBeLessThan(1e-3);
      const [own, most] = [sharded, whole].map(({ first }) => weightBytes(first.description));
      if (shares[0]! < Math.max(...shares) || shares.every((share) => share === 1)) expect(own).toBeLessThan(most!);
    },
  );

  it("is cut from the embedding where it is tied to that", async () => {
    await using whole = await Ranks.start(tied, [1, 1, 1], options);
    await using sharded = await Ranks.start(tied, [1, 1, 1], options, { head: "sharded" });
    const expected = await logitsOf(whole);
    const scale = Math.max(...expected.flatMap((logits) => Array.from(logits, Math.abs)));
    expect(largestDifference(await logitsOf(sharded), expected)).toBeLessThan(1e-3 * scale);
  });

  it("stays in step when a request is stopped", async () => {
    await using ranks = await Ranks.start(demo, [1, 1, 1], options, { head: "sharded" });
    const step = { tokens: prompt, position: 0, outputs: 1 };
    const expected = Float32Array.from(await ranks.first.step(step));
    for (let i = 0; i < 40; i++) {
      const stopper = new AbortController();
      const stopped = ranks.first.step(step, stopper.signal).catch((error: unknown) => error);
      setTimeout(() => stopper.abort("enough"), i / 10);
      await stopped;
      expect(Float32Array.from(await ranks.first.step(step))).toEqual(expected);
    }
  });
});
