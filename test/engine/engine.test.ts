import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import type { Engine } from "#stellium/engine/engine";
import { argmax, distance, roundingDistance, startEngine } from "./oracle.ts";

const demo = fileURLToPath(new URL("../../models/stellium-shakespeare-5m-q8_0.gguf", import.meta.url));
const prompt = Array.from({ length: 300 }, (_, i) => (i * 37 + 11) % 1000);

async function logitsAfter(engine: Engine, tokens: number[], batch: number): Promise<Float32Array> {
  let logits = new Float32Array(0) as Float32Array;
  for (let position = 0; position < tokens.length; position += batch) {
    const chunk = tokens.slice(position, position + batch);
    const outputs = position + batch >= tokens.length ? 1 : 0;
    logits = await engine.step({ tokens: chunk, position, outputs });
  }
  return Float32Array.from(logits);
}

describe("engine", () => {
  it("gives the same logits to the bit, whether blocks share a graph or not", async () => {
    await using whole = await startEngine(demo, { graphs: "whole" });
    await using block = await startEngine(demo, { graphs: "block" });
    for (const length of [1, 2, 40, 300]) {
      const tokens = prompt.slice(0, length);
      expect(await logitsAfter(block, tokens, 512)).toEqual(await logitsAfter(whole, tokens, 512));
    }
  });

  it("keeps graphs of several shapes apart", async () => {
    await using engine = await startEngine(demo, { graphs: "block" });
    const first = await logitsAfter(engine, prompt.slice(0, 30), 512);
    for (const length of [1, 7, 200, 60, 31, 299, 2]) await logitsAfter(engine, prompt.slice(0, length), 512);
    expect(await logitsAfter(engine, prompt.slice(0, 30), 512)).toEqual(first);
  });

  // Kernels split their sums by thread, and quantized activations make the difference larger than rounding.
  it.each([1, 300])("agrees with itself on two threads, for %i tokens at once", async (batch) => {
    await using one = await startEngine(demo, { threads: 1 });
    await using two = await startEngine(demo, { threads: 2 });
    const tokens = prompt.slice(0, batch === 1 ? 24 : 300);
    const [a, b] = [await logitsAfter(one, tokens, batch), await logitsAfter(two, tokens, batch)];
    // The most likely token of one is as good as that of the other.
    expect(a[argmax(a)]! - a[argmax(b)]!).toBeLessThan(roundingDistance);
    expect(distance(a, b)).toBeLessThan(roundingDistance);
  });

  it("agrees with itself when a prompt comes in batches of other sizes", async () => {
    await using engine = await startEngine(demo);
    const whole = await logitsAfter(engine, prompt, 512);
    const batched = await logitsAfter(engine, prompt, 64);
    expect(distance(whole, batched)).toBeLessThan(roundingDistance);
  });

  it.each(["f32", "q8_0"] as const)("computes with a KV cache of %s", async (kvType) => {
    await using ours = await startEngine(demo, { kvType });
    await using f16 = await startEngine(demo);
    const [a, b] = [await logitsAfter(ours, prompt, 512), await logitsAfter(f16, prompt, 512)];
    const difference = distance(a, b);
    expect(difference).toBeGreaterThan(0);
    expect(difference).toBeLessThan(roundingDistance);
  });

  it("gives logits to as many tokens as are asked for", async () => {
    await using engine = await startEngine(demo, { outputs: 300 });
    const size = engine.description.hyperparameters.vocabularySize;
    const all = Float32Array.from(await engine.step({ tokens: prompt, position: 0, outputs: 300 }));
    const last = await engine.step({ tokens: prompt, position: 0, outputs: 1 });
    expect(all.length).toBe(300 * size);
    expect(distance(last, all.subarray(299 * size))).toBeLessThan(roundingDistance);
  });

  it("stops a step when asked to, and goes on from before it", async () => {
    await using engine = await startEngine(demo, { context: 4096, batch: 4096 });
    const long = Array.from({ length: 2000 }, (_, i) => i % 1000);
    const expected = await logitsAfter(engine, prompt.slice(0, 50), 512);
    const timed = async (step: Promise<unknown>) => {
      const started = performance.now();
      await step;
      return performance.now() - started;
    };
    const whole = await timed(engine.step({ tokens: long, position: 0, outputs: 1 }));
    const stopped = engine.step({ tokens: long, position: 0, outputs: 1 }, AbortSignal.timeout(Math.ceil(whole / 20)));
    const until = await timed(expect(stopped).rejects.toMatchObject({ code: "ABORTED" }));
    expect(until).toBeLessThan(0.7 * whole);
    expect(await logitsAfter(engine, prompt.slice(0, 50), 512)).toEqual(expected);
  });

  it("keeps the main thread free while it computes", async () => {
    await using engine = await startEngine(demo, { context: 4096, batch: 4096 });
    let ticks = 0;
    const timer = setInterval(() => ticks++, 1);
    await engine.step({ tokens: Array.from({ length: 2000 }, (_, i) => i % 1000), position: 0, outputs: 1 });
    clearInterval(timer);
    expect(ticks).toBeGreaterThan(10);
  });

  it("refuses steps that do not fit before they reach native code", async () => {
    await using engine = await startEngine(demo);
    const step = (tokens: number[], position = 0, outputs = 1) => engine.step({ tokens, position, outputs });
    await expect(step([])).rejects.toThrow(RangeError);
    await expect(step([1024])).rejects.toThrow(RangeError);
    await expect(step([-1])).rejects.toThrow(RangeError);
    await expect(step([Number.NaN])).rejects.toThrow(RangeError);
    await expect(step([1], 512)).rejects.toThrow(RangeError);
    await expect(step([1], 0, 2)).rejects.toThrow(RangeError);
  });

  it("says so when its model file is cut short while it is loaded", async () => {
    const { copyFileSync, mkdtempSync, rmSync, truncateSync } = await import("node:fs");
    const folder = mkdtempSync(`${(await import("node:os")).tmpdir()}/stellium-test-`);
    const path = `${folder}/model.gguf`;
    copyFileSync(demo, path);
    const { Engine: EngineClass } = await import("#stellium/engine/engine");
    await using sound = await startEngine(demo);
    const description = { ...sound.description, files: [path] };
    truncateSync(path, 2_000_000);
    const started = EngineClass.start({ description, options: sound.options });
    await expect(started).rejects.toMatchObject({ code: "FILE_UNREADABLE" });
    rmSync(folder, { recursive: true });
  });
});
