import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { StelliumError } from "#stellium/errors";
import type { ModelDescription } from "#stellium/model/describeModel";
import { blockWeightBytes, expertUnits } from "#stellium/model/expertWeights";
import { describe as describeModelFile } from "#stellium/model/support";
import { type TensorTypeName, tensorTypes } from "#stellium/native/tensorTypes";
import { type RankDescription, rankDescription } from "#stellium/plan/rankDescription";
import { planShares, type SharePlan } from "#stellium/plan/shares";
import { readGguf } from "#stellium/weights/gguf/reader";
import { sliceBytes, type TensorSlice } from "#stellium/weights/slice";
import { generateModel } from "../../bench/generateModel.mjs";
import { describeShape, type Shape } from "./description.ts";

const llama7b: Shape = {
  layers: 2,
  kvHeads: 32,
  group: 1,
  headLength: 128,
  embedding: 4096,
  ffn: 11008,
  vocabulary: 32000,
  types: ["Q4_0"],
};
const llama70b: Shape = { ...llama7b, kvHeads: 8, group: 8, embedding: 8192, ffn: 28672, types: ["Q4_K", "Q6_K"] };

const types: TensorTypeName[] = ["F32", "F16", "Q4_0", "Q8_0", "Q4_K", "Q6_K"];

/** Shapes whose rows are whole quantization blocks, as a GGUF's are. */
const shapes = fc
  .record({
    layers: fc.integer({ min: 1, max: 3 }),
    kvHeads: fc.integer({ min: 1, max: 12 }),
    group: fc.integer({ min: 1, max: 8 }),
    headLength: fc.constantFrom(8, 32, 64, 80, 96, 128, 256),
    embedding: fc.constant(256),
    ffn: fc.integer({ min: 1, max: 4000 }),
    vocabulary: fc.integer({ min: 1, max: 1000 }),
    types: fc.array(fc.constantFrom(...types), { minLength: 1, maxLength: 3 }),
    biases: fc.boolean(),
    ropeFactors: fc.boolean(),
  })
  .map((shape): Shape => {
    const block = Math.max(...shape.types.map((type) => tensorTypes[type].blockElements));
    const heads = shape.kvHeads * Math.ceil((shape.group * shape.kvHeads * shape.headLength) / block);
    const whole = (shape.group * shape.kvHeads * shape.headLength) % block === 0;
    return {
      ...shape,
      ffn: Math.ceil(shape.ffn / block) * block,
      ...(whole ? {} : { headLength: 128, group: 2 * heads }),
    };
  });

const relatives = fc
  .array(fc.oneof(fc.constant(0), fc.constant(1), fc.double({ min: 0, max: 1e308, noNaN: true })), {
    minLength: 1,
    maxLength: 64,
  })
  .filter((shares) => shares.some((share) => share > 0));

const options = fc.record({
  head: fc.constantFrom("coordinator" as const, "sharded" as const),
  even: fc.constantFrom("blocks" as const, "bytes" as const),
});

function ranks(shape: Shape, plan: SharePlan): RankDescription[] {
  return plan.ranks.map((_, rank) => rankDescription(describeShape(shape), plan, rank));
}

/** The slices of each tensor, by rank. */
function slicesOf(descriptions: readonly RankDescription[]): Map<string, TensorSlice[]> {
  const slices = new Map<string, TensorSlice[]>();
  for (const { blocks } of descriptions) {
    for (const weight of blocks.flatMap((block) => block.weights)) {
      slices.set(weight.tensor.name, [...(slices.get(weight.tensor.name) ?? []), weight]);
    }
  }
  return slices;
}

/** That the slices, which are bands in one direction, cover a tensor once each. */
function expectPartition(slices: readonly TensorSlice[]): void {
  const { tensor } = slices[0]!;
  const [columns = 1, rows = 1] = tensor.shape;
  const byRows = slices.every((slice) => slice.columns.count === columns);
  const bands = slices.map((slice) => (byRows ? slice.rows : slice.columns));
  const others = slices.map((slice) => (byRows ? slice.columns : slice.rows));
  let end = 0;
  for (const { start, count } of bands) {
    expect(start).toBe(end);
    expect(count).toBeGreaterThan(0);
    end = start + count;
  }
  expect(end).toBe(byRows ? rows : columns);
  for (const other of others) expect(other).toEqual({ start: 0, count: byRows ? columns : rows });
}

describe("shares", () => {
  it("own every element once, on block borders, for any shape, types, number of ranks and proportions", () => {
    fc.assert(
      fc.property(shapes, relatives, options, (shape, relative, how) => {
        const plan = planShares(describeShape(shape), relative, how);
        expect(JSON.parse(JSON.stringify(plan))).toEqual(plan);
        const descriptions = ranks(shape, plan);
        for (const [name, slices] of slicesOf(descriptions)) {
          if (/_norm\.weight$/.test(name)) for (const slice of slices) expectPartition([slice]);
          else expectPartition(slices);
          for (const { tensor, columns } of slices) {
            const { blockElements } = tensorTypes[tensor.type];
            expect(columns.start % blockElements).toBe(0);
            expect(columns.count % blockElements).toBe(0);
          }
        }
        const all = describeShape(shape).blocks.flatMap((block) => block.weights.map(({ tensor }) => tensor.name));
        expect([...slicesOf(descriptions).keys()].sort()).toEqual(all.sort());
      }),
      { numRuns: 300 },
    );
  });

  it("give a rank whose number is 0 nothing, and no rank a unit more or less than its proportion", () => {
    fc.assert(
      fc.property(shapes, relatives, (shape, relative) => {
        const plan = planShares(describeShape(shape), relative);
        const largest = Math.max(...relative);
        const sum = relative.reduce((total, share) => total + share / largest, 0);
        const units = Math.ceil(shape.ffn / plan.groups.ffn);
        for (const [rank, { kvHeads, ffn }] of plan.ranks.entries()) {
          const fraction = relative[rank]! / largest / sum;
          if (fraction === 0) expect([kvHeads.count, ffn.count]).toEqual([0, 0]);
          const quota = fraction * units;
          expect(Math.abs(Math.ceil(ffn.count / plan.groups.ffn) - quota)).toBeLessThanOrEqual(1 + 1e-9);
        }
      }),
      { numRuns: 300 },
    );
  });

  it("of a 7B model in Q4_0 are dealt by heads and by 64 columns", () => {
    const plan = planShares(describeShape(llama7b), [3, 1, 2]);
    expect(plan).toMatchObject({ groups: { kvHeads: 1, ffn: 64 }, head: "coordinator" });
    expect(plan.ranks.map(({ kvHeads }) => kvHeads.count)).toEqual([16, 5, 11]);
    expect(plan.ranks.map(({ ffn }) => ffn.count)).toEqual([86 * 64, 29 * 64, 57 * 64]);
    expect(plan.ranks.map(({ vocabulary }) => vocabulary.count)).toEqual([32000, 0, 0]);
  });

  it("of a 70B model in K-quants may be more than its KV heads", () => {
    const plan = planShares(describeShape(llama70b), Array(64).fill(1));
    expect(plan.groups.ffn).toBe(256);
    expect(plan.ranks.map(({ kvHeads }) => kvHeads.count)).toEqual([...Array(8).fill(1), ...Array(56).fill(0)]);
    expect(new Set(plan.ranks.map(({ ffn }) => ffn.count))).toEqual(new Set([256, 512]));
  });

  it("take KV heads together until they end on a border", () => {
    const plan = planShares(describeShape({ ...llama70b, kvHeads: 8, group: 1, headLength: 64 }), [1, 1, 1]);
    expect(plan.groups.kvHeads).toBe(4);
    expect(plan.ranks.map(({ kvHeads }) => kvHeads)).toEqual([
      { start: 0, count: 4 },
      { start: 4, count: 4 },
      { start: 8, count: 0 },
    ]);
  });

  it("take finer columns where there would be few for each rank, and a smaller last unit", () => {
    const tiny = { ...llama7b, ffn: 172, types: ["F32" as const] };
    const units = [1, 2, 64].map((ranks) => planShares(describeShape(tiny), Array(ranks).fill(1)).groups.ffn);
    expect(units).toEqual([32, 16, 1]);
    expect(planShares(describeShape(tiny), [1, 1]).ranks.map(({ ffn }) => ffn.count)).toEqual([96, 76]);
    expect(planShares(describeShape({ ...tiny, types: ["Q4_0"], ffn: 192 }), [1, 1])).toMatchObject({
      groups: { ffn: 32 },
    });
  });

  it("level the bytes of all ranks where that is wanted, also where some have no attention", () => {
    const bytes = (even: "blocks" | "bytes") => {
      const plan = planShares(describeShape(llama70b), Array(12).fill(1), { even });
      return ranks(llama70b, plan).map(({ blocks }) =>
        blocks.flatMap((block) => block.weights).reduce((sum, weight) => sum + sliceBytes(weight), 0),
      );
    };
    const spread = (values: number[]) => Math.max(...values.slice(1)) / Math.min(...values.slice(1));
    expect(spread(bytes("blocks"))).toBeGreaterThan(1.2);
    expect(spread(bytes("bytes"))).toBeLessThan(1.1);
  });

  it("count what every rank has a copy of when they level bytes", async () => {
    const folder = mkdtempSync(join(tmpdir(), "stellium-test-"));
    const path = join(folder, "model.gguf");
    await generateModel({ shape: "tiny-deepseek2", type: "F32", path });
    const model = describeModelFile(await readGguf(path));
    rmSync(folder, { recursive: true });
    const plan = planShares(model, Array(5).fill(1), { even: "bytes" });
    const [, ...others] = plan.ranks.map((_, rank) =>
      rankDescription(model, plan, rank).blocks.reduce((sum, block) => sum + blockWeightBytes(block), 0),
    );
    expect(plan.ranks.at(-1)!.kvHeads.count).toBe(0);
    expect(Math.max(...others) / Math.min(...others)).toBeLessThan(1.05);
  });

  it.each<[string, number[], string]>([
    ["no ranks", [], "0 shares, where there may be 1 to 64"],
    ["too many ranks", Array(65).fill(1), "65 shares, where there may be 1 to 64"],
    ["a negative share", [1, -1], "share 2 of 2 is -1"],
    ["a share that is no number", [Number.NaN], "share 1 of 1 is NaN"],
    ["an infinite share", [1, Number.POSITIVE_INFINITY], "share 2 of 2 is Infinity"],
    ["nothing but zeros", [0, 0, 0], "all of its 3 shares are 0"],
  ])("are refused with the numbers: %s", (_, relative, reason) => {
    const act = () => planShares(describeShape(llama7b), relative);
    expect(act).toThrow(StelliumError);
    expect(act).toThrow(reason);
  });
});

describe("what a rank runs", () => {
  const shape: Shape = { ...llama70b, biases: true, ropeFactors: true };
  const plan = planShares(describeShape(shape), [0, 3, 1, 0]);

  it("has the rank's own heads and columns, and the dimensions of the model", () => {
    const [idle, most] = ranks(shape, plan);
    const counts = ({ share }: RankDescription) => [share.kvHeads.count, share.ffn.count];
    expect(counts(most!)).toEqual([6, 21504]);
    expect(counts(idle!)).toEqual([0, 0]);
    for (const { hyperparameters } of ranks(shape, plan)) {
      expect(hyperparameters).toEqual(describeShape(shape).hyperparameters);
    }
  });

  it("keeps blocks of which it has nothing, empty, in the list", () => {
    for (const description of ranks(shape, plan)) {
      expect(description.blocks.map(({ kind, layer }) => `${kind} ${layer}`)).toEqual([
        "attention 0",
        "ffn 0",
        "attention 1",
        "ffn 1",
        "head 2",
      ]);
      for (const { empty, weights } of description.blocks) expect(weights.length === 0).toBe(empty);
    }
    const [idle, most, some] = ranks(shape, plan);
    expect(idle!.blocks.map(({ empty }) => empty)).toEqual([true, true, true, true, false]);
    expect(most!.blocks.map(({ empty }) => empty)).toEqual([false, false, false, false, true]);
    expect([idle, most, some].map((rank) => rank!.embedding !== undefined)).toEqual([true, false, false]);
    expect([idle, most, some].map((rank) => rank!.shared.map(({ role }) => role))).toEqual([
      [],
      ["rope_freqs.weight"],
      ["rope_freqs.weight"],
    ]);
  });

  it("adds the biases of summed projections once, on the first rank that computes them", () => {
    const roles = ranks(shape, plan).map(({ blocks }) => blocks[0]!.weights.map(({ role }) => role));
    expect(roles.map((names) => names.includes("attn_output.bias"))).toEqual([false, true, false, false]);
    expect(roles.map((names) => names.includes("attn_q.bias"))).toEqual([false, true, true, false]);
  });

  it("is refused for a rank that is not in the plan", () => {
    expect(() => rankDescription(describeShape(shape), plan, 4)).toThrow("there is no rank 4 among 4");
  });

  it("has of one rank everything", () => {
    const alone = rankDescription(describeShape(shape), planShares(describeShape(shape), [5]), 0);
    const { blocks, hyperparameters } = describeShape(shape);
    expect(alone.hyperparameters).toEqual(hyperparameters);
    for (const [i, block] of alone.blocks.entries()) {
      expect(block.weights.map(({ role }) => role)).toEqual(blocks[i]!.weights.map(({ role }) => role));
      for (const weight of block.weights) expect(sliceBytes(weight)).toBe(weight.tensor.bytes);
    }
  });
});

describe.each([
  ["of three parts each", "tiny-ernie4_5-moe", "Q8_0", 3],
  ["of one part each", "tiny-mixtral", "Q4_K", 1],
])("experts %s", (_, shape, type, parts) => {
  const folder = mkdtempSync(join(tmpdir(), "stellium-test-"));
  let model: ModelDescription;
  beforeAll(async () => {
    const path = join(folder, "model.gguf");
    await generateModel({ shape, type, path });
    model = describeModelFile(await readGguf(path));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  it("are dealt so that each is there once, in whole blocks, and each rank has its share of them all", () => {
    fc.assert(
      fc.property(relatives, (relative) => {
        const plan = planShares(model, relative);
        if (plan.experts === undefined) return;
        const descriptions = relative.map((_, rank) => rankDescription(model, plan, rank));
        const slices = new Map<string, TensorSlice[]>();
        for (const { weights } of descriptions.flatMap(({ blocks }) => expertUnits(blocks)))
          for (const weight of weights) slices.set(weight.name, [...(slices.get(weight.name) ?? []), weight]);
        for (const own of slices.values()) expectExpert(own, model.units.expertFfn);
        expect(slices.size).toBe(3 * expertUnits(model.blocks).length);
        const largest = Math.max(...relative);
        const sum = relative.reduce((total, share) => total + share / largest, 0);
        const count = model.hyperparameters.routing!.count;
        for (const [rank, ranges] of plan.experts.entries()) {
          const dealt = ranges.reduce((total, range) => total + range.count, 0) / plan.groups.expertFfn;
          expect(Math.abs(dealt - (relative[rank]! / largest / sum) * parts * count)).toBeLessThan(relative.length);
          if (relative[rank] === 0) expect(dealt).toBe(0);
        }
      }),
      { numRuns: 60 },
    );
  });

  it.each([2, 3, 4, 8].map((ranks) => [ranks]))("give %i equal ranks equally much", (ranks) => {
    const plan = planShares(model, Array(ranks).fill(1));
    const columns = plan.ranks.map((_, rank) => {
      const units = expertUnits(rankDescription(model, plan, rank).blocks);
      return units.reduce((total, { weights }) => total + weights[0]!.rows.count, 0);
    });
    const layers = model.blocks.filter(({ experts }) => experts !== undefined).length;
    expect(Math.max(...columns) - Math.min(...columns)).toBeLessThanOrEqual(layers * plan.groups.expertFfn);
  });
});

/** That slices of an expert's matrix cover it once each, in whole blocks. */
function expectExpert(slices: readonly TensorSlice[], width: number): void {
  const byRows = !slices[0]!.name.includes("ffn_down");
  const bands = slices.map(({ rows, columns }) => (byRows ? rows : columns)).sort((a, b) => a.start - b.start);
  let end = bands[0]!.start;
  for (const { start, count } of bands) {
    expect(start).toBe(end);
    expect(count).toBeGreaterThan(0);
    end = start + count;
  }
  expect(end - bands[0]!.start).toBe(width);
  for (const { tensor, columns } of slices) {
    expect(columns.start % tensorTypes[tensor.type].blockElements).toBe(0);
    expect(columns.count % tensorTypes[tensor.type].blockElements).toBe(0);
  }
}
