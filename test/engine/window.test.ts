import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Engine } from "#stellium/engine/engine";
import { generateModel } from "../../bench/generateModel.mjs";
import { argmax, engineDefaults } from "./oracle.ts";
import { Ranks } from "./ranks.ts";
import { type CutRank, cutRanks, streamed, streamedPlain, streamedRanks } from "./slices.ts";

const demo = fileURLToPath(new URL("../../models/stellium-shakespeare-5m-q8_0.gguf", import.meta.url));
const options = { ...engineDefaults, graphs: "block" } as const;
const prompt = Array.from({ length: 40 }, (_, i) => (i * 37 + 11) % 500);

/** The logits of a prompt in two batches and of some tokens behind it. */
async function logitsOf(engine: Engine): Promise<Float32Array[]> {
  await engine.step({ tokens: prompt.slice(0, 24), position: 0, outputs: 0 });
  const logits = [Float32Array.from(await engine.step({ tokens: prompt.slice(24), position: 24, outputs: 1 }))];
  for (let position = prompt.length; position < prompt.length + 6; position++) {
    const tokens = [argmax(logits.at(-1)!)];
    logits.push(Float32Array.from(await engine.step({ tokens, position, outputs: 1 })));
  }
  return logits;
}

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "stellium-window-"));
});
afterAll(() => rm(directory, { recursive: true }));

describe.each([
  ["the demo model", undefined],
  ["a llama of Q4_0", { shape: "tiny-llama-llama3", type: "Q4_0", seed: 7 }],
  ["a qwen2 of Q4_K with a tied head", { shape: "tiny-qwen2", type: "Q4_K", seed: 8 }],
])("%s", (name, generated) => {
  let path = demo;
  let ranks: CutRank[];
  let resident: Float32Array[];

  beforeAll(async () => {
    if (generated !== undefined) {
      path = join(directory, `${name}.gguf`);
      await generateModel({ ...generated, path });
    }
    ranks = await cutRanks(path, [1], directory);
    await using engine = await Engine.start({ description: ranks[0]!.description, options });
    resident = await logitsOf(engine);
  });

  it.each([1, 2, 3, 5])("writes the same through a window of %i blocks", async (blocks) => {
    const [rank] = ranks;
    await using engine = await Engine.start({ ...rank!, options, origin: await streamed(rank!, blocks) });
    expect(await logitsOf(engine)).toEqual(resident);
    const { windowBytes, pinnedBytes, diskBytes } = engine.statistics;
    expect(windowBytes).toBeGreaterThan(0);
    expect(pinnedBytes).toBeLessThan(engine.weightBytes / 10);
    expect(diskBytes).toBeGreaterThan(6 * engine.weightBytes);
  });

  it("writes the same where some blocks are pinned, and reads less", async () => {
    const [rank] = ranks;
    const origin = await streamed(rank!, 2, (block) => block % 3 !== 1);
    await using engine = await Engine.start({ ...rank!, options: { ...options, graphs: "whole" }, origin });
    expect(await logitsOf(engine)).toEqual(resident);
    expect(engine.statistics.diskBytes).toBeLessThan(6 * engine.weightBytes);
  });

  it("writes about the same from the model's own file", async () => {
    const { description } = ranks[0]!;
    await using engine = await Engine.start({ description, options, origin: streamedPlain(description, 2) });
    const logits = await logitsOf(engine);
    const largest = Math.max(...resident[0]!.map((value, i) => Math.abs(value - logits[0]![i]!)));
    const scale = Math.max(...resident[0]!.map(Math.abs));
    expect(largest).toBeLessThan(scale / 50);
    expect(engine.statistics.windowBytes).toBeGreaterThan(0);
  });

  it("writes the same on several ranks, each with a window", async () => {
    const shares = [2, 1];
    const cut = await cutRanks(path, shares, directory);
    const written = [];
    for (const blocks of [undefined, 1, 3]) {
      const ranks = await streamedRanks(cut, blocks ?? 1, () => blocks === undefined);
      await using linked = await Ranks.of(ranks, options);
      written.push(await logitsOf(linked.first));
    }
    expect(written[1]).toEqual(written[0]);
    expect(written[2]).toEqual(written[0]);
  });
});
