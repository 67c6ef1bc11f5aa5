import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { viewNative } from "#stellium/native/memory";
import { loadCounter } from "#stellium/weights/loader";
import { WeightStore } from "#stellium/weights/weightStore";
import type { Weights } from "#stellium/weights/weights";
import { BlockWeights } from "#stellium/weights/window/blockWeights";
import { sliceMap } from "#stellium/weights/window/sliceMap";
import { complete, device, ggml, sliceOf } from "./sliceFixture.ts";

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "stellium-store-"));
});
afterAll(() => rm(directory, { recursive: true }));

async function load(weights: Weights): Promise<void> {
  await weights.load(2, new Int32Array(new SharedArrayBuffer(4 * loadCounter.length)));
}

function bytesOf(weights: Weights, name: string, bytes: number): Uint8Array {
  return viewNative(ggml.getData(weights.get(name))!, bytes);
}

describe("weights that are converted from the model's file", () => {
  it.each([
    ["all of a model", [1], 0, true],
    ["some rows and columns", [1, 2], 1, true],
    ["some rows and columns, without the system's cache", [1, 2], 0, false],
  ] as const)("are in memory what a slice has: %s", async (_, shares, rank, cached) => {
    const slice = sliceOf(shares, rank);
    const path = join(directory, `${shares.length}-${rank}.gguf`);
    await writeFile(path, await slice.source.read(0, slice.source.size));
    const tensors = slice.header.blocks.flatMap((block) => block.tensors);
    using converted = new WeightStore(ggml, device, { paths: [path], cached }, slice.cut.blocks.flat());
    // A layout may leave bytes between rows as they are.
    for (const { name, bytes } of tensors) bytesOf(converted, name, bytes).fill(0);
    await load(converted);
    const kept = await complete(directory, slice);
    const placement = { pinned: [], windowBytes: 0, cached };
    using stored = new BlockWeights(ggml, device, await sliceMap(kept.path), placement, () => false);
    await load(stored);
    expect(tensors.length).toBeGreaterThan(40);
    for (const { name, bytes } of tensors) {
      expect(Buffer.compare(bytesOf(converted, name, bytes), bytesOf(stored, name, bytes)), name).toBe(0);
    }
    expect([converted.bytes, new Map([...converted.layouts].sort())]).toEqual([
      stored.bytes,
      new Map([...stored.layouts].sort()),
    ]);
  });
});
