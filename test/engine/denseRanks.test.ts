import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { allAtOnce, dense, denseModel, ModelFiles, nearTie, rounding, shallowShapes, sideBySide } from "./dense.ts";
import { divergences, engineDefaults, sameInstructions } from "./oracle.ts";
import { Ranks } from "./ranks.ts";
import { cutRanks, streamedRanks } from "./slices.ts";

const files = new ModelFiles();
const slices = mkdtempSync(join(tmpdir(), "stellium-test-"));
afterAll(() => {
  files[Symbol.dispose]();
  rmSync(slices, { recursive: true });
});

describe.each(["F32", "Q4_K"])("an architecture in %s says about the same", (type) => {
  it.each(shallowShapes(type))("%s, on two ranks with uneven shares", async (shape) => {
    const model = denseModel(shape, type);
    const { path } = await files.make(model);
    await using ranks = await Ranks.start(path, [3, 1], engineDefaults, { head: "sharded" });
    const found = await divergences(ranks.first, model.runs[0]!);
    const tie = type === "F32" && sameInstructions(ranks.first, dense.made) ? nearTie.F32 : nearTie.elsewhere;
    for (const { difference } of found) expect(difference).toBeLessThan(tie);
  });

  it.each(shallowShapes(type))("%s, on three ranks, each through a window of blocks", async (shape) => {
    const model = denseModel(shape, type);
    const { path } = await files.make(model);
    const cut = await cutRanks(path, [1, 2, 1], slices);
    await using ranks = await Ranks.of(await streamedRanks(cut, 2), {
      ...allAtOnce,
      slots: 2,
      batch: 1024,
      graphs: "block",
    });
    expect(ranks.first.statistics.windowBytes).toBeGreaterThan(0);
    expect(await sideBySide(ranks.first, model.runs[0]!, 20)).toBeLessThan(rounding[type]!);
  });
});
