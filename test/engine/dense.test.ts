import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import type { Engine } from "#stellium/engine/engine";
import type { EngineOptions } from "#stellium/engine/protocol";
import { architectureNames } from "#stellium/model/support";
import { allAtOnce, type DenseModel, dense, denseModel, differenceTo, ModelFiles, shapesOf } from "./dense.ts";
import { divergences, engineDefaults, logSoftmax, type ReferenceRun, sameInstructions, startEngine } from "./oracle.ts";
import { Ranks } from "./ranks.ts";
import { cutRanks, streamedRanks } from "./slices.ts";

const files = new ModelFiles();
const slices = mkdtempSync(join(tmpdir(), "stellium-test-"));
afterAll(() => {
  files[Symbol.dispose]();
  rmSync(slices, { recursive: true });
});

/** Where tokens differ on the reference's CPU, and on another one, whose rounding of activations is another. */
const nearTie = { F32: 1e-3, quantized: 1e-2, elsewhere: 0.35 };
/**
 * Sums over ranks and products of batches round differently, and more so the products of quantized activations: of what
 * is said at other positions than near-ties of tokens.
 */
const rounding: Record<string, number> = { F32: 0.05, Q4_K: 0.5 };

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
      const limit = sameInstructions(engine, dense.made) ? exact : nearTie.elsewhere;
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

/** Two sequences that follow the same reference side by side, the first one some tokens ahead. Returns the worse difference. */
async function sideBySide(engine: Engine, { prompt, tokens, top }: ReferenceRun, ahead: number): Promise<number> {
  const text = [...prompt, ...tokens];
  const starts = [prompt.length + ahead, prompt.length];
  await engine.step(starts.map((end, slot) => ({ slot, tokens: text.slice(0, end), position: 0, outputs: 0 })));
  let worst = 0;
  for (let step = 0; step < 8; step++) {
    const parts = starts.map((start, slot) => ({
      slot,
      tokens: [text[start + step]!],
      position: start + step,
      outputs: 1,
    }));
    const logits = await engine.step(parts);
    const width = logits.length / 2;
    for (const [slot, { position }] of parts.entries()) {
      const row = logSoftmax(logits.subarray(slot * width, (slot + 1) * width));
      const at = position - prompt.length + 1;
      worst = Math.max(worst, differenceTo({ prompt, tokens, top: [top[at]!] }, [row]));
    }
  }
  return worst;
}

const shallow = (type: string) => shapesOf(type).filter((shape) => !shape.endsWith("-deep"));

describe.each(["F32", "Q4_K"])("an architecture in %s says about the same", (type) => {
  const limit = rounding[type]!;
  const twoSlots: EngineOptions = { ...allAtOnce, slots: 2, batch: 1024 };

  it.each(shallow(type))("%s, two sequences side by side", async (shape) => {
    const model = denseModel(shape, type);
    const { path } = await files.make(model);
    await using engine = await startEngine(path, twoSlots);
    expect(await sideBySide(engine, runOf(model), 20)).toBeLessThan(limit);
  });

  it.each(shallow(type))("%s, on two ranks with uneven shares", async (shape) => {
    const model = denseModel(shape, type);
    const { path } = await files.make(model);
    await using ranks = await Ranks.start(path, [3, 1], engineDefaults, { head: "sharded" });
    const found = await divergences(ranks.first, runOf(model));
    const tie = type === "F32" && sameInstructions(ranks.first, dense.made) ? nearTie.F32 : nearTie.elsewhere;
    for (const { difference } of found) expect(difference).toBeLessThan(tie);
  });

  it.each(shallow(type))("%s, on three ranks, each through a window of blocks", async (shape) => {
    const model = denseModel(shape, type);
    const { path } = await files.make(model);
    const cut = await cutRanks(path, [1, 2, 1], slices);
    await using ranks = await Ranks.of(await streamedRanks(cut, 2), { ...twoSlots, graphs: "block" });
    expect(ranks.first.statistics.windowBytes).toBeGreaterThan(0);
    expect(await sideBySide(ranks.first, runOf(model), 20)).toBeLessThan(limit);
  });
});
