import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { plannedKvBytes, planShared } from "#stellium/cluster/engineOptions";
import { describe as describeModelFile } from "#stellium/model/support";
import { planMemory } from "#stellium/plan/memory";
import { rankDescription } from "#stellium/plan/rankDescription";
import { planShares } from "#stellium/plan/shares";
import { defaultSampling } from "#stellium/serving/sampler";
import { TextModel } from "#stellium/serving/textModel";
import { readGguf } from "#stellium/weights/gguf/reader";
import { denseModel, ModelFiles } from "./dense.ts";
import { distance, engineDefaults, startEngine } from "./oracle.ts";
import { Ranks } from "./ranks.ts";

const files = new ModelFiles();
const folder = mkdtempSync(join(tmpdir(), "stellium-test-"));
afterAll(() => {
  files[Symbol.dispose]();
  rmSync(folder, { recursive: true });
});

const text = Array.from({ length: 273 }, (_, i) => (i * 37 + 11) % 500);
/**
 * Rows of logits after the same tokens are up to 0.15 apart, by rounding (see `distance`; measured with zen4, haswell, sse42
 * and x64), or 0.31 with a cache in eight bits. After the same tokens in reverse they are 2.7 apart.
 */
const rounding = { usual: 0.3, q8_0: 0.7 };
let path: string;
beforeAll(async () => {
  ({ path } = await files.make(denseModel("tiny-deepseek2-dense", "Q8_0")));
});

describe("the vector that latent attention caches", () => {
  it.each([[[1]], [[1, 0, 2]]])(
    "goes to another slot, into a copy and back, on ranks in proportion %j",
    async (shares) => {
      await using ranks = await Ranks.start(path, shares, { ...engineDefaults, slots: 4, storedCells: 300 });
      const { first: engine } = ranks;
      const end = async (slot: number) =>
        Float32Array.from(await engine.step({ slot, tokens: text.slice(270), position: 270, outputs: 1 }));
      await engine.step({ tokens: text.slice(0, 270), position: 0, outputs: 0 });
      const expected = await end(0);
      await engine.moveCells({ move: "copy", from: 0, to: 2, cells: 270 });
      await engine.moveCells({ move: "save", slot: 0, key: 7, cells: 270 });
      expect(await end(2)).toEqual(expected);
      await engine.step({ tokens: text.toReversed(), position: 0, outputs: 0 });
      expect(distance(await end(0), expected)).toBeGreaterThan(rounding.q8_0);
      await engine.moveCells({ move: "restore", slot: 0, key: 7, cells: 200 });
      await engine.step({ tokens: text.slice(200, 270), position: 200, outputs: 0 });
      expect(distance(await end(0), expected)).toBeLessThan(rounding.usual);
      await engine.moveCells({ move: "restore", slot: 3, key: 7, cells: 270 });
      expect(await end(3)).toEqual(expected);
    },
  );

  it.each([
    ["f32", rounding.usual],
    ["q8_0", rounding.q8_0],
  ] as const)("may be of type %s", async (kvType, limit) => {
    await using usual = await startEngine(path);
    await using other = await startEngine(path, { kvType });
    const request = { tokens: text, position: 0, outputs: 1 };
    const rows = [await usual.step(request), await other.step(request)] as const;
    expect(rows[0]).not.toEqual(rows[1]);
    expect(distance(...rows)).toBeLessThan(limit);
  });

  it("is refused in a type into whose blocks it does not divide", async () => {
    const lite = await files.make(denseModel("tiny-deepseek2-dense-lite", "Q8_0"));
    const reason = "heads of 80 values do not divide into the blocks of a q8_0 KV cache";
    await expect(startEngine(lite.path, { kvType: "q8_0" })).rejects.toThrow(reason);
  });

  it("takes as much memory on each rank that has heads, however many, and none on others", async () => {
    const whole = describeModelFile(await readGguf(path));
    const bytesOf = (shares: readonly number[]) =>
      shares.map((_, rank) => {
        const description = rankDescription(whole, planShares(whole, shares), rank);
        return plannedKvBytes(description, planShared(description, { context: 512, parallel: 2 }));
      });
    const [layers, vector] = [3, 256 + 32];
    const all = 2 * 512 * layers * vector * 2;
    expect(bytesOf([1])).toEqual([all]);
    expect(bytesOf([1, 0, 2, 3])).toEqual([all, 0, all, all]);
  });

  it.each([1, 3])("leaves the memory of a step with %i sequences within what is planned", async (slots) => {
    const options = { ...engineDefaults, slots, outputs: slots };
    await using engine = await startEngine(path, options);
    const tokens = text.slice(0, Math.floor(512 / slots));
    await engine.step(Array.from({ length: slots }, (_, slot) => ({ slot, tokens, position: 0, outputs: 1 })));
    expect(engine.computeBytes).toBeGreaterThan(1e6);
    expect(engine.computeBytes).toBeLessThan(planMemory(engine.description, options, 0).compute);
  });

  it("is left to a later run in a file of prefixes", async () => {
    const options = { threads: 1, context: 256, prefixBytes: 4e6, prefixFile: join(folder, "left.prefixes") };
    const answers = [];
    for (let run = 0; run < 2; run++) {
      await using model = await TextModel.open(path, options);
      const prompt = await model.encodePrompt("a b c d e f g h i j k l m n o p");
      answers.push({ prompt: prompt.length, ...(await written(model, prompt)) });
    }
    expect(answers[1]!.text).toBe(answers[0]!.text);
    expect(answers.map(({ cached }) => cached)).toEqual([0, answers[0]!.prompt - 1]);
  });
});

async function written(model: TextModel, prompt: ArrayLike<number>): Promise<{ text: string; cached: number }> {
  const sampling = { ...defaultSampling, temperature: 0 };
  const generation = model.generate({ prompt, maxTokens: 8, sampling, ignoreEos: true });
  let text = "";
  for (;;) {
    const { done, value } = await generation.next();
    if (done) return { text, cached: value.timings.cache_n };
    text += value.text;
  }
}
