import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { Engine } from "#stellium/engine/engine";
import type { EngineOptions } from "#stellium/engine/protocol";
import { architectures } from "#stellium/model/architectures";
import type { ModelDescription } from "#stellium/model/describeModel";
import { describe as describeModelFile } from "#stellium/model/support";
import { rankDescription } from "#stellium/plan/rankDescription";
import { planShares, type SharePlan } from "#stellium/plan/shares";
import { readGguf } from "#stellium/weights/gguf/reader";
import { allAtOnce, type DenseModel, ModelFiles, nearTie, sideBySideRows, teacherForced } from "./dense.ts";
import { divergences, engineDefaults, readReferences, sameInstructions, startEngine } from "./oracle.ts";
import { Ranks } from "./ranks.ts";
import { cutRanks, streamed, streamedPlain, streamedRanks } from "./slices.ts";

const moe = readReferences("moe");
const files = new ModelFiles();
const folder = mkdtempSync(join(tmpdir(), "stellium-test-"));
afterAll(() => {
  files[Symbol.dispose]();
  rmSync(folder, { recursive: true });
});

const { models } = moe;
const inF32 = models.filter(({ generator }) => generator!.type === "F32");
const inQ8 = models.filter(({ generator }) => generator!.type === "Q8_0" && !generator!.shape.endsWith("-deep"));
/** One of each way in which experts are stored: all in one tensor, in one with biases, and in a tensor each. */
const stored = inF32.filter(({ generator }) => /^tiny-(qwen3moe|gpt-oss|mixtral-2023)$/.test(generator!.shape));
/** Part of the experts that pools of these tests have room for. */
const part = 0.3;
const named = (some: readonly DenseModel[]) => some.map((model) => [model.generator!.shape, model] as const);

/**
 * Rounding that is usual of quantized activations, at half of the positions: where it makes a router choose another expert,
 * one position differs by much more. llama.cpp's own builds differ from each other in the same way.
 */
const usual = 0.3;

/** Keys and values are cached as f16: what is computed in another order may differ by a last bit of those (0.011 with AVX2). */
const cacheRounding = 0.02;

/** Difference of log-probabilities where tokens differ; on another CPU than the reference's, as far as its rounding reaches. */
function tieInF32(engine: Engine): number {
  return sameInstructions(engine, moe.made) ? nearTie.F32 : cacheRounding;
}

/** The difference that nine of ten are below, or another part of them. */
function ninthTenth(differences: readonly number[], part = 0.9): number {
  return [...differences].sort((a, b) => a - b)[Math.floor(part * differences.length)]!;
}

/** The difference that half of them are below. */
function median(differences: readonly number[]): number {
  return ninthTenth(differences, 0.5);
}

/** Differences of the most likely tokens' log-probabilities from a reference, by position. */
async function differences(engine: Engine, { runs: [run] }: DenseModel): Promise<number[]> {
  const rows = await teacherForced(engine, run!);
  return rows.map((row, i) => Math.max(...run!.top[i]!.map(([token, value]) => Math.abs(row[token]! - value))));
}

/** Holds an engine to a reference's tokens: where another one is written, it has to be a near-tie. */
async function writes(engine: Engine, model: DenseModel, limit: number): Promise<void> {
  for (const { difference } of await divergences(engine, model.runs[0]!)) expect(difference).toBeLessThan(limit);
}

describe("a mixture of experts writes what llama.cpp writes", () => {
  it.each(models.map((model) => [model.generator!.shape, model.generator!.type, model] as const))(
    "%s %s",
    async (_, type, model) => {
      const { path, same } = await files.make(model);
      await using engine = await startEngine(path, allAtOnce);
      if (!(same && sameInstructions(engine, moe.made))) {
        // Of many layers, most positions have another expert somewhere.
        const deep = model.generator!.shape.endsWith("-deep") ? 4 : 1;
        expect(median(await differences(engine, model))).toBeLessThan(deep * usual);
      } else await writes(engine, model, nearTie[type === "F32" ? "F32" : "quantized"]);
    },
  );

  it("and each architecture with experts has a reference", () => {
    const tested = new Set(models.map(({ generator }) => generator!.shape));
    for (const { name } of architectures.filter(({ experts }) => experts !== undefined)) {
      const shape = name === "llama" ? "mixtral" : name;
      expect(
        [...tested].some((each) => each.startsWith(`tiny-${shape}`)),
        name,
      ).toBe(true);
    }
  });
});

describe("with room for some of the experts", () => {
  const decoding: EngineOptions = { ...engineDefaults, slots: 2, outputs: 2 };

  it.each(named(inF32))("%s writes the same, and beside another sequence about the same", async (_, model) => {
    const { path } = await files.make(model);
    const [cut] = await cutRanks(path, [1], folder);
    const { description } = cut!;
    const origin = await streamed(cut!, 2, (block) => block % 2 === 0, part);
    await using engine = await Engine.start({ description, options: decoding, origin });
    await writes(engine, model, tieInF32(engine));
    const { prompt, tokens } = model.runs[0]!;
    await using resident = await startEngine(path, decoding);
    const expected = await sideBySideRows(resident, [...prompt, ...tokens], [60, 40]);
    const rows = await sideBySideRows(engine, [...prompt, ...tokens], [60, 40]);
    const distances = rows.map(({ row }, i) =>
      Math.max(...row.map((value, j) => Math.abs(value - expected[i]!.row[j]!))),
    );
    expect(ninthTenth(distances)).toBeLessThan(cacheRounding);
    expect(engine.statistics.expertMisses).toBeGreaterThan(0);
  });

  it.each(named(stored))("%s says the same from the model's file", async (_, model) => {
    const { path } = await files.make(model);
    const whole = describeModelFile(await readGguf(path));
    const description = rankDescription(whole, planShares(whole, [1]), 0);
    const origin = streamedPlain(description, 2, part);
    await using engine = await Engine.start({ description, options: allAtOnce, origin });
    await using resident = await startEngine(path, allAtOnce);
    const [expected, found] = [await differences(resident, model), await differences(engine, model)];
    expect(ninthTenth(found.map((difference, i) => Math.abs(difference - expected[i]!)))).toBeLessThan(nearTie.F32);
  });
});

describe("on ranks with uneven shares", () => {
  it.each(named(inF32))("%s writes the same", async (_, model) => {
    const { path } = await files.make(model);
    await using ranks = await Ranks.start(path, [3, 1], engineDefaults);
    await writes(ranks.first, model, tieInF32(ranks.first));
  });

  it.each(named(inQ8))("%s says about the same on three, each with room for some of the experts", async (_, model) => {
    const { path } = await files.make(model);
    const cut = await cutRanks(path, [1, 2, 1], folder);
    await using ranks = await Ranks.of(await streamedRanks(cut, 2, undefined, part), { ...allAtOnce, graphs: "block" });
    expect(median(await differences(ranks.first, model))).toBeLessThan(usual);
  });
});

/** Without biases of experts, which are divided by columns in any case. */
const dealt = /^tiny-(qwen3moe|qwen2moe|granitemoe-shared|deepseek2-flash|gemma4-moe)$/;
/** Three ranks: in turns, one has all of an expert, or each has some of it. */
function dealtByTurns(whole: ModelDescription): SharePlan {
  const width = whole.units.expertFfn;
  const ends = [0, width / 4, width / 2, width];
  const range = (rank: number, expert: number) => {
    if (expert % 2 === 1) return { start: ends[rank]!, count: ends[rank + 1]! - ends[rank]! };
    return { start: 0, count: expert % 3 === rank ? width : 0 };
  };
  const plan = planShares(whole, [1, 1, 1]);
  const { count } = whole.hyperparameters.routing!;
  const ranks = plan.ranks.map((share) => ({ ...share, expertFfn: { start: 0, count: width } }));
  const experts = ranks.map((_, rank) => Array.from({ length: count }, (_, expert) => range(rank, expert)));
  return { ...plan, ranks, experts };
}

const inQ4 = models.filter(({ generator }) => generator!.type === "Q4_K" && /mixtral|ernie/.test(generator!.shape));

describe("on ranks that have parts of other experts each", () => {
  it.each(named(inF32.filter(({ generator }) => dealt.test(generator!.shape))))(
    "%s writes the same",
    async (_, model) => {
      const { path } = await files.make(model);
      const whole = describeModelFile(await readGguf(path));
      const plan = dealtByTurns(whole);
      const origin = { kind: "gguf", files: whole.files } as const;
      const starts = plan.ranks.map((_, rank) => ({ description: rankDescription(whole, plan, rank), origin }));
      await using ranks = await Ranks.of(starts, engineDefaults);
      await writes(ranks.first, model, tieInF32(ranks.first));
    },
  );

  it.each(named(inQ4))("%s says about the same, all of it in memory or not", async (_, model) => {
    const { path } = await files.make(model);
    const shares = [1, 1, 1, 1];
    expect(planShares(describeModelFile(await readGguf(path)), shares).experts).toBeDefined();
    await using whole = await Ranks.start(path, shares, allAtOnce);
    const cut = await cutRanks(path, shares, folder);
    await using streams = await Ranks.of(await streamedRanks(cut, 2, undefined, part), {
      ...allAtOnce,
      graphs: "block",
    });
    for (const ranks of [whole, streams]) expect(median(await differences(ranks.first, model))).toBeLessThan(usual);
  });

  it("computes experts that all have room without reading any", async () => {
    const { path } = await files.make(inQ4[0]!);
    const cut = await cutRanks(path, [1, 1], folder);
    await using ranks = await Ranks.of(await streamedRanks(cut, 2), engineDefaults);
    const { prompt, tokens } = inQ4[0]!.runs[0]!;
    await ranks.first.step({ tokens: [...prompt, ...tokens], position: 0, outputs: 1 });
    expect(ranks.first.statistics).toMatchObject({ expertBytes: 0, expertMisses: 0 });
    expect(ranks.first.statistics.expertHits).toBeGreaterThan(0);
  });
});
