import { afterAll, describe, expect, it } from "vitest";
import { Engine } from "#stellium/engine/engine";
import type { EngineOptions } from "#stellium/engine/protocol";
import { architectures } from "#stellium/model/architectures";
import { describe as describeModelFile } from "#stellium/model/support";
import { rankDescription } from "#stellium/plan/rankDescription";
import { planShares } from "#stellium/plan/shares";
import { readGguf } from "#stellium/weights/gguf/reader";
import { allAtOnce, type DenseModel, dense, ModelFiles, nearTie, rounding, sideBySide } from "./dense.ts";
import { divergences, engineDefaults, type ReferenceRun, sameInstructions, startEngine } from "./oracle.ts";
import { streamedPlain } from "./slices.ts";

const files = new ModelFiles();
afterAll(() => files[Symbol.dispose]());

const changed = "this CPU quantizes to another file than the one the reference was made from";
const runOf = ({ runs }: DenseModel): ReferenceRun => runs[0]!;
const twoSlots: EngineOptions = { ...allAtOnce, slots: 2, batch: 1024 };

/** Starts an engine: in Q8_0 it reads the model through a window of two blocks, otherwise it has all in memory. */
async function start(model: DenseModel, path: string): Promise<Engine> {
  const { shape, type } = model.generator!;
  if (type !== "Q8_0" || shape.endsWith("-deep")) return await startEngine(path, twoSlots);
  const whole = describeModelFile(await readGguf(path));
  const description = rankDescription(whole, planShares(whole, [1]), 0);
  const options: EngineOptions = { ...engineDefaults, graphs: "block" };
  const engine = await Engine.start({ description, options, origin: streamedPlain(description, 2) });
  expect(engine.statistics.windowBytes).toBeGreaterThan(0);
  return engine;
}

// In F32, test/model/facts.test.ts compares what one device says.
describe("an architecture writes what llama.cpp writes, token by token", () => {
  for (const model of dense.models.filter(({ generator }) => generator!.type !== "F32")) {
    const { shape, type } = model.generator!;
    it(`${shape} ${type}`, async ({ skip }) => {
      const { path, same } = await files.make(model);
      await using engine = await start(model, path);
      if (type === "Q4_K") {
        const { batch, decoding } = await sideBySide(engine, runOf(model));
        expect(Math.max(batch, decoding)).toBeLessThan(rounding["Q4_K"]!);
      }
      skip(!same, changed);
      const elsewhere = shape.endsWith("-deep") ? nearTie.deepElsewhere : nearTie.elsewhere;
      const tie = sameInstructions(engine, dense.made) ? nearTie.quantized : elsewhere;
      for (const { difference } of await divergences(engine, runOf(model))) expect(difference).toBeLessThan(tie);
    });
  }

  it("and each one without experts but the first three has a reference", () => {
    const tested = new Set(dense.models.map(({ generator }) => generator!.shape));
    for (const { name } of architectures.slice(3).filter(({ experts }) => experts === undefined)) {
      expect(
        [...tested].some((shape) => shape.startsWith(`tiny-${name === "phi3" ? "phi" : name}`)),
        name,
      ).toBe(true);
    }
  });
});
