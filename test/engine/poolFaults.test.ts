import { copyFile, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Engine } from "#stellium/engine/engine";
import { openSlice } from "#stellium/weights/sliceStore";
import { generateModel } from "../../bench/generateModel.mjs";
import { engineDefaults, startEngine } from "./oracle.ts";
import { Ranks } from "./ranks.ts";
import { type CutRank, cutRanks, streamed, streamedRanks } from "./slices.ts";

const options = { ...engineDefaults, graphs: "block" } as const;
const step = { tokens: [1, 2, 3], position: 0, outputs: 1 };
/** Part of the experts that there is room for. */
const part = 0.3;
const pinned = () => true;

let directory: string;
let model: string;
let whole: CutRank;
let expected: Float32Array;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "stellium-faults-"));
  model = join(directory, "model.gguf");
  await generateModel({ shape: "tiny-qwen3moe", type: "F32", seed: 3, path: model });
  whole = (await cutRanks(model, [1], directory))[0]!;
  await using engine = await startEngine(model, options);
  expected = Float32Array.from(await engine.step(step));
});
afterAll(() => rm(directory, { recursive: true }));

/** Spoils all experts of a layer, in a copy of a slice. */
async function spoilt(rank: CutRank, layer: number): Promise<CutRank> {
  const path = `${rank.path}.spoilt.slice`;
  await copyFile(rank.path, path);
  await using slice = await openSlice(path, "r+");
  for (const block of slice.header.blocks.filter(({ kind, layer: own }) => kind === "expert" && own === layer)) {
    const position = slice.encoded.dataOffset + block.offset + 100;
    await slice.handle.write(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8), 0, 8, position);
  }
  return { ...rank, path };
}

/** Kinds of the blocks that are to be fetched again. */
async function incomplete({ path }: CutRank): Promise<Set<string>> {
  await using slice = await openSlice(path);
  return new Set((await slice.incomplete()).map((index) => slice.header.blocks[index]!.kind));
}

function near(found: Float32Array): void {
  const differences = found.map((value, i) => Math.abs(value - expected[i]!));
  expect(Math.max(...differences)).toBeLessThan(1e-3);
}

describe("experts that are spoilt", () => {
  it("are not loaded if all are to stay in memory, and will be fetched again", async () => {
    const rank = await spoilt(whole, 1);
    const started = Engine.start({ ...rank, options, origin: await streamed(rank, 2, pinned) });
    await expect(started).rejects.toMatchObject({ code: "SLICE_INVALID" });
    expect(await incomplete(rank)).toEqual(new Set(["expert"]));
  });

  it.each([
    ["are in memory", 2, pinned],
    ["pass through a small window", 1, () => false],
    ["pass through a large one", 6, () => false],
  ])("fail the steps that need them, again and again, beside blocks that %s", async (_, blocks, isPinned) => {
    const rank = await spoilt(whole, 1);
    await using engine = await Engine.start({ ...rank, options, origin: await streamed(rank, blocks, isPinned, part) });
    await expect(engine.step(step)).rejects.toMatchObject({ code: "SLICE_INVALID" });
    await expect(engine.step(step)).rejects.toMatchObject({ code: "SLICE_INVALID" });
    expect(await incomplete(rank)).toEqual(new Set(["expert"]));
  });

  it("on rank 0 of several stop all ranks, which are ready for the next step", async () => {
    const [first, second] = await cutRanks(model, [1, 1], directory);
    const ranks = [await spoilt(first!, 1), second!];
    await using running = await Ranks.of(await streamedRanks(ranks, 2, pinned, part), options);
    await expect(running.first.step(step)).rejects.toMatchObject({ code: "SLICE_INVALID" });
    await expect(running.first.step(step)).rejects.toMatchObject({ code: "SLICE_INVALID" });
  });
});

describe("a step through a pool of experts", () => {
  it("may be stopped at any time, and the next one says the same", async () => {
    const tokens = Array.from({ length: 200 }, (_, i) => (i * 37 + 11) % 500);
    await using engine = await Engine.start({ ...whole, options, origin: await streamed(whole, 2, () => false, part) });
    for (const ms of [0, 1, 2, 4, 8, 16, 32]) {
      const taken = engine.step({ tokens, position: 0, outputs: 1 }, AbortSignal.timeout(ms));
      await taken.catch(({ code }) => expect(code).toBe("ABORTED"));
      near(await engine.step(step));
    }
    const { expertSlots, expertHits, expertMisses, expertsReadAhead, diskBytes } = engine.statistics;
    expect(expertSlots).toBeGreaterThan(0);
    expect(expertHits).toBeGreaterThan(0);
    expect(expertMisses).toBeGreaterThan(expertSlots);
    expect(diskBytes).toBeGreaterThan(0);
    // The disk is busy with blocks that are streamed.
    expect(expertsReadAhead).toBe(0);
  });
});
