import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { architectureNames } from "#stellium/model/support";
import { generateModel, shapes } from "../../bench/generateModel.mjs";
import { denseShapes } from "../../bench/model/denseShapes.mjs";
import type { Shape } from "../../bench/model/shapes.mjs";
import {
  allAtOnce,
  denseModel,
  differenceTo,
  ModelFiles,
  noticed,
  rounding,
  shallowShapes,
  sideBySide,
  sideBySideRows,
  teacherForced,
} from "./dense.ts";
import { distance, startEngine } from "./oracle.ts";
import { Ranks } from "./ranks.ts";
import { type CutRank, cutRanks, lastStreamed } from "./slices.ts";

const files = new ModelFiles();
const folder = mkdtempSync(join(tmpdir(), "stellium-test-"));
afterAll(() => {
  files[Symbol.dispose]();
  rmSync(folder, { recursive: true });
});

const twoSlots = { ...allAtOnce, slots: 2, batch: 1024, graphs: "block" } as const;

describe("an architecture in Q8_0, on two ranks with uneven shares and rows of the head, says about the same", () => {
  it.each(shallowShapes("Q8_0"))("%s", async (shape) => {
    const model = denseModel(shape, "Q8_0");
    const { path } = await files.make(model);
    await using ranks = await Ranks.start(path, [3, 1], allAtOnce, { head: "sharded" });
    const rows = await teacherForced(ranks.first, model.runs[0]!);
    expect(differenceTo(model.runs[0]!, rows)).toBeLessThan(rounding["Q8_0"]!);
  });
});

describe("an architecture in F32, on three ranks with uneven shares, says about the same", () => {
  it.each(shallowShapes("Q8_0"))("%s, of two sequences side by side", async (shape) => {
    const model = denseModel(shape, "F32");
    const { path } = await files.make(model);
    await using ranks = await Ranks.start(path, [1, 2, 1], twoSlots, { overlap: false });
    const { batch, decoding } = await sideBySide(ranks.first, model.runs[0]!);
    expect(batch).toBeLessThan(noticed);
    expect(decoding).toBeLessThan(rounding["F32"]!);
  });
});

/** One shape of each architecture with blocks of 256 values for every fourth of its heads and enough in the feed-forward part. */
const wide = { layers: 2, heads: 16, kvHeads: 4, headSize: 64, feedForward: 1024 };
/** Where layers differ, the second one sees everything, and has as many columns and half as many KV heads again. */
const wideLayers: Record<string, Partial<Shape>> = {
  gemma4: {
    ofLayer: (layer) => (layer === 0 ? {} : { kvHeads: 8, feedForward: 2048 }),
    keys: {
      "attention.head_count_kv": { type: "i32s", value: Int32Array.of(4, 8) },
      feed_forward_length: { type: "i32s", value: Int32Array.of(1024, 2048) },
      "attention.sliding_window": { type: "u32", value: 40 },
      "attention.sliding_window_pattern": { type: "bools", value: [true, false] },
      embedding_length_per_layer_input: { type: "u32", value: 32 },
    },
  },
};
/**
 * Rows of log-probabilities differ by that (see `distance`) if nothing but the order of sums does, which quantized
 * activations make more of: up to 0.065 by AVX-512. Rows of other tokens are 2 and more apart.
 */
const splitRounding = 0.15;
const text = Array.from({ length: 60 }, (_, i) => (i * 37 + 11) % 500);

describe("an architecture in Q4_K, split at the borders of its blocks, says what it says on one device", () => {
  const shown = architectureNames()
    .slice(3)
    .filter((name) => Object.values(denseShapes).some((shape) => shape.architecture === name));

  it.each(shown)("%s, on three ranks, one streamed, of two sequences side by side", async (name) => {
    const [, shape] = Object.entries(denseShapes).find(([, { architecture }]) => architecture === name)!;
    const path = join(folder, `wide-${name}.gguf`);
    Object.assign(shapes, { wide: { ...shape, ...wide, ...wideLayers[name] } });
    await generateModel({ shape: "wide", type: "Q4_K", path });
    const cut = await cutRanks(path, [1, 2, 1], folder);
    const sharesOf = ({ description: { share, units } }: CutRank) =>
      (["kvHeads", "ffn"] as const).map((unit) => share[unit].count / units[unit]);
    expect(cut.map(sharesOf)).toEqual([
      [0.25, 0.25],
      [0.5, 0.5],
      [0.25, 0.25],
    ]);
    await using ranks = await Ranks.of(await lastStreamed(cut, 2), twoSlots, { overlap: false });
    expect(ranks.engines[2]!.statistics.windowBytes).toBeGreaterThan(0);
    await using one = await startEngine(path, twoSlots);
    const expected = await sideBySideRows(one, text, [50, 40]);
    const rows = await sideBySideRows(ranks.first, text, [50, 40]);
    const differences = expected.map(({ row }, i) => distance(Float32Array.from(row), Float32Array.from(rows[i]!.row)));
    expect(Math.max(...differences)).toBeLessThan(splitRounding);
  });
});
