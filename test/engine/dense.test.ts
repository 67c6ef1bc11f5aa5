import { afterAll, describe, expect, it } from "vitest";
import { Engine } from "#stellium/engine/engine";
import type { EngineOptions } from "#stellium/engine/protocol";
import { architectureNames, describe as describeModelFile } from "#stellium/model/support";
import { rankDescription } from "#stellium/plan/rankDescription";
import { planShares } from "#stellium/plan/shares";
import { readGguf } from "#stellium/weights/gguf/reader";
import {
  allAtOnce,
  type DenseModel,
  dense,
  denseModel,
  differenceTo,
  ModelFiles,
  nearTie,
  noticed,
  rounding,
  shallowShapes,
  sideBySide,
  teacherForced,
} from "./dense.ts";
import { divergences, type ReferenceRun, sameInstructions, startEngine } from "./oracle.ts";
import { streamedPlain } from "./slices.ts";

const files = new ModelFiles();
afterAll(() => files[Symbol.dispose]());

const changed = "this CPU quantizes to another file than the one the reference was made from";
const runOf = ({ runs }: DenseModel): ReferenceRun => runs[0]!;
const twoSlots: EngineOptions = { ...allAtOnce, slots: 2, batch: 1024 };

describe("an architecture writes what llama.cpp writes, and about the same beside another sequence", () => {
  for (const model of dense.models) {
    const { shape, type } = model.generator!;
    it(`${shape} ${type}`, async ({ skip }) => {
      const { path, same } = await files.make(model);
      await using engine = await startEngine(path, twoSlots);
      const limit = rounding[type];
      if (limit !== undefined) expect(await sideBySide(engine, runOf(model), 20)).toBeLessThan(limit);
      skip(!same, changed);
      const exact = nearTie[type === "F32" ? "F32" : "quantized"];
      const elsewhere = shape.endsWith("-deep") ? nearTie.deepElsewhere : nearTie.elsewhere;
      const tie = sameInstructions(engine, dense.made) ? exact : elsewhere;
      for (const { difference } of await divergences(engine, runOf(model))) expect(difference).toBeLessThan(tie);
    });
  }

  it("and each one but the first three has a reference", () => {
    const tested = new Set(dense.models.map(({ generator }) => generator!.shape));
    for (const name of architectureNames().slice(3)) {
      expect(
        [...tested].some((shape) => shape.startsWith(`tiny-${name === "phi3" ? "phi" : name}`)),
        name,
      ).toBe(true);
    }
  });
});

describe("an architecture says the same through a window of blocks, on one device", () => {
  it.each(shallowShapes("F32"))("%s", async (shape) => {
    const model = denseModel(shape, "F32");
    const { path } = await files.make(model);
    const whole = describeModelFile(await readGguf(path));
    const description = rankDescription(whole, planShares(whole, [1]), 0);
    const options: EngineOptions = { ...allAtOnce, graphs: "block" };
    await using engine = await Engine.start({ description, options, origin: streamedPlain(description, 2) });
    expect(engine.statistics.windowBytes).toBeGreaterThan(0);
    expect(differenceTo(runOf(model), await teacherForced(engine, runOf(model)))).toBeLessThan(noticed);
  });
});
