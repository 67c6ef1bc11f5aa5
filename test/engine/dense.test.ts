import { afterAll, describe, expect, it } from "vitest";
import type { EngineOptions } from "#stellium/engine/protocol";
import { architectureNames } from "#stellium/model/support";
import {
  allAtOnce,
  type DenseModel,
  dense,
  denseModel,
  ModelFiles,
  nearTie,
  rounding,
  shallowShapes,
  sideBySide,
} from "./dense.ts";
import { divergences, type ReferenceRun, sameInstructions, startEngine } from "./oracle.ts";

const files = new ModelFiles();
afterAll(() => files[Symbol.dispose]());

const changed = "this CPU quantizes to another file than the one the reference was made from";
const runOf = ({ runs }: DenseModel): ReferenceRun => runs[0]!;

describe("an architecture writes what llama.cpp writes", () => {
  for (const model of dense.models) {
    const { shape, type } = model.generator!;
    it(`${shape} ${type}`, async ({ skip }) => {
      const { path, same } = await files.make(model);
      skip(!same, changed);
      await using engine = await startEngine(path);
      const exact = nearTie[type === "F32" ? "F32" : "quantized"];
      const elsewhere = shape.endsWith("-deep") ? nearTie.deepElsewhere : nearTie.elsewhere;
      const limit = sameInstructions(engine, dense.made) ? exact : elsewhere;
      for (const { difference } of await divergences(engine, runOf(model))) expect(difference).toBeLessThan(limit);
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

const twoSlots: EngineOptions = { ...allAtOnce, slots: 2, batch: 1024 };

describe.each(["F32", "Q4_K"])("an architecture in %s says about the same", (type) => {
  const limit = rounding[type]!;
  it.each(shallowShapes(type))("%s, two sequences side by side", async (shape) => {
    const model = denseModel(shape, type);
    const { path } = await files.make(model);
    await using engine = await startEngine(path, twoSlots);
    expect(await sideBySide(engine, runOf(model), 20)).toBeLessThan(limit);
  });
});
