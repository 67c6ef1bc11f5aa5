import { copyFile, mkdtemp, rm, stat, truncate, unlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Engine } from "#stellium/engine/engine";
import { openSlice } from "#stellium/weights/sliceStore";
import { generateModel } from "../../bench/generateModel.mjs";
import { engineDefaults } from "./oracle.ts";
import { Ranks } from "./ranks.ts";
import { type CutRank, cutRanks, streamed, streamedRanks } from "./slices.ts";

const options = { ...engineDefaults, graphs: "block" } as const;
const step = { tokens: [1, 2, 3], position: 0, outputs: 1 };

let directory: string;
let whole: CutRank;
let expected: Float32Array;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "stellium-faults-"));
  const path = join(directory, "model.gguf");
  await generateModel({ shape: "tiny-llama", type: "Q4_0", seed: 3, path });
  whole = (await cutRanks(path, [1], directory))[0]!;
  await using engine = await Engine.start({ ...whole, options, origin: await streamed(whole, 2) });
  expected = Float32Array.from(await engine.step(step));
});
afterAll(() => rm(directory, { recursive: true }));

/** The slice in a file of its own, to be spoilt. */
async function copied(name: string): Promise<CutRank> {
  const path = join(directory, `${name}.slice`);
  await copyFile(whole.path, path);
  return { ...whole, path };
}

async function damage({ path }: CutRank, block: number): Promise<void> {
  await using slice = await openSlice(path, "r+");
  const position = slice.encoded.dataOffset + slice.header.blocks[block]!.offset + 100;
  await slice.handle.write(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8), 0, 8, position);
}

async function incomplete({ path }: CutRank): Promise<number[]> {
  await using slice = await openSlice(path);
  return await slice.incomplete();
}

describe("a slice that is spoilt", () => {
  it("in a pinned block is not loaded, and the block will be fetched again", async () => {
    const rank = await copied("pinned");
    await damage(rank, 2);
    const started = Engine.start({ ...rank, options, origin: await streamed(rank, 2, () => true) });
    await expect(started).rejects.toMatchObject({ code: "SLICE_INVALID" });
    expect(await incomplete(rank)).toEqual([2]);
  });

  it("in a streamed block fails the step that reads it, again and again, and the block will be fetched again", async () => {
    const rank = await copied("streamed");
    await damage(rank, 3);
    await using engine = await Engine.start({ ...rank, options, origin: await streamed(rank, 2) });
    await expect(engine.step(step)).rejects.toMatchObject({ code: "SLICE_INVALID" });
    await expect(engine.step(step)).rejects.toMatchObject({ code: "SLICE_INVALID" });
    expect(await incomplete(rank)).toEqual([3]);
  });

  it("by being cut while it is in use fails the step", async () => {
    const rank = await copied("cut");
    await using engine = await Engine.start({ ...rank, options, origin: await streamed(rank, 1) });
    expect(await engine.step(step)).toEqual(expected);
    const { size } = await stat(rank.path);
    await truncate(rank.path, size / 2);
    await expect(
      (async () => {
        // What was read ahead is still good.
        for (let attempt = 0; attempt < 3; attempt++) await engine.step(step);
      })(),
    ).rejects.toMatchObject({ code: "FILE_UNREADABLE" });
  });

  it("by being deleted while it is in use goes on being read", async () => {
    const rank = await copied("deleted");
    await using engine = await Engine.start({ ...rank, options, origin: await streamed(rank, 1) });
    expect(await engine.step(step)).toEqual(expected);
    await unlink(rank.path);
    expect(await engine.step(step)).toEqual(expected);
  });
});

describe("a slice of rank 0 that is spoilt", () => {
  it.each([
    ["a layer", "coordinator" as const, 3],
    ["its head", "coordinator" as const, -1],
    ["its part of the head", "sharded" as const, -1],
  ])("in %s fails the step on rank 0, and leaves the other ranks fit for the next", async (_, head, block) => {
    const folder = join(directory, `${head}${block}`);
    const [first, second] = await cutRanks(join(directory, "model.gguf"), [1, 1], folder, head);
    const blocks = first!.description.blocks.length;
    await damage(first!, (block + blocks) % blocks);
    const from = await streamedRanks([first!, second!], 2);
    await using ranks = await Ranks.of(from, options);
    for (const tokens of [[1], [1, 2, 3], [4]]) {
      await expect(ranks.first.step({ ...step, tokens })).rejects.toMatchObject({ code: "SLICE_INVALID" });
    }
    expect(await Promise.race([ranks.followed[0], "following"])).toBe("following");
  });
});

describe("a step through a window", () => {
  it("that was stopped anywhere leaves the window fit for the next", async () => {
    await using engine = await Engine.start({ ...whole, options, origin: await streamed(whole, 1) });
    for (let delay = 0; delay < 12; delay++) {
      const stop = new AbortController();
      const stopped = engine.step({ ...step, tokens: Array(400).fill(1) }, stop.signal);
      setTimeout(() => stop.abort(), delay);
      await stopped.catch((error: unknown) => expect(error).toMatchObject({ code: "ABORTED" }));
      expect(await engine.step(step)).toEqual(expected);
    }
  });

  it("ends with the engine", async () => {
    const engine = await Engine.start({ ...whole, options, origin: await streamed(whole, 1) });
    const running = engine.step({ ...step, tokens: Array(400).fill(1) });
    running.catch(() => {});
    await engine[Symbol.asyncDispose]();
    await expect(running).rejects.toMatchObject({ code: "ABORTED" });
    await expect(engine.step(step)).rejects.toMatchObject({ code: "ENGINE_FAILED" });
  });
});
