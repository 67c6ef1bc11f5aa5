import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { collectiveNames } from "#stellium/collective/collective";
import { dealNames, deals, engineOptions, prompt, sizes, tolerance } from "../../bench/answers/cases.mjs";
import { follow, type Written, write } from "../../bench/answers/compare.mjs";
import { demo, random, stories } from "../../bench/answers/models.mjs";
import { Ranks } from "../../bench/answers/ranks.mjs";
import { absentData } from "../skip.ts";

const folder = mkdtempSync(join(tmpdir(), "stellium-test-"));
afterAll(() => rmSync(folder, { recursive: true }));

const models = [
  random(folder, "tiny-llama", "F32"),
  random(folder, "tiny-qwen2", "F16"),
  random(folder, "tiny-qwen3", "Q4_K_M"),
  random(folder, "tiny-llama", "Q4_0"),
  demo(),
  stories("f32"),
];

/** Any two of number, shares, collective and model meet in one of them; all that there are: `npm run bench -- answers`. */
const cases = models.flatMap((model, m) =>
  sizes.map((size, n) => ({
    model,
    size,
    deal: dealNames[(m + n) % dealNames.length]!,
    collective: collectiveNames[(m + 2 * n) % collectiveNames.length]!,
  })),
);

const alone = new Map<string, Promise<Written>>();

/** What one device writes. */
async function writtenAlone(path: string, type: string): Promise<Written> {
  await using one = await Ranks.start(path, [1], engineOptions(type));
  return await write(one.first, prompt, 16);
}

describe("N devices answer as one does", () => {
  it("in cases of which every pair is one", () => {
    const pairs = (a: "model" | "size" | "deal" | "collective", b: typeof a) =>
      new Set(cases.map((one) => JSON.stringify([one[a], one[b]]))).size;
    expect(pairs("size", "deal")).toBe(15);
    expect(pairs("size", "collective")).toBe(25);
    expect(pairs("deal", "collective")).toBe(15);
    expect(pairs("model", "size")).toBe(30);
    expect(pairs("model", "deal")).toBe(18);
    expect(pairs("model", "collective")).toBe(30);
  });

  it.for(cases)("$model.name on $size, $deal, by $collective", async ({ model, size, deal, collective }, { skip }) => {
    const path = await model.file();
    if (path === undefined) return skip(absentData("stories260K"));
    if (!alone.has(path)) alone.set(path, writtenAlone(path, model.type));
    const written = await alone.get(path)!;
    await using ranks = await Ranks.start(path, deals[deal][size], engineOptions(model.type));
    await ranks.link({ collective, wire: "f32" });
    const found = await follow(ranks.first, written);
    expect(found.written).toBeLessThan(tolerance(model.type));
    expect(found.atFlips).toBeLessThan(tolerance(model.type));
  });
});
