import { readdirSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { skipUnless } from "../skip.ts";
import { demo, difference, logitsOf, options, outputs, prompt } from "./dividedPrompt.ts";
import { engineDefaults, startEngine } from "./oracle.ts";
import { type LinkOptions, Ranks } from "./ranks.ts";
import { cutRanks, streamedRanks } from "./slices.ts";

let alone: Float32Array[];
beforeAll(async () => {
  await using engine = await startEngine(demo, { outputs });
  alone = await logitsOf(engine);
});

function bytesOf({ buffer, byteOffset, byteLength }: Float32Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

describe("ranks that communicate while they compute", () => {
  it.each<[number[], LinkOptions, number]>([
    [[1, 1], {}, 0.03],
    [[1, 1], { collective: "auto", wire: "f16", cipher: "chacha20-poly1305" }, 0.03],
    [[2, 1, 3], { collective: "mesh", cipher: "none" }, 0.03],
    [[3, 0, 1, 1], { collective: "star" }, 0.03],
    [[1, 1, 1], { wire: "q8_0", collective: "ring" }, 0.1],
  ])("in proportion %j agree with one, linked by %j", async (shares, links, tolerance) => {
    await using ranks = await Ranks.start(demo, shares, options, links);
    expect(difference(await logitsOf(ranks.first), alone)).toBeLessThanOrEqual(tolerance);
    const { collectives } = ranks.first.statistics;
    await ranks.first.step({ tokens: [5], position: prompt.length, outputs: 1 });
    expect(ranks.first.statistics.collectives - collectives).toBeLessThan(collectives * 0.7);
  });

  it("agree with ranks that do not", async () => {
    await using ranks = await Ranks.start(demo, [1, 1], options);
    const overlapping = await logitsOf(ranks.first);
    await ranks.unlink();
    await ranks.link({ overlap: false });
    expect(difference(await logitsOf(ranks.first), overlapping)).toBeLessThanOrEqual(0.03);
  });

  // Kernels may round otherwise for other numbers of tokens: so those that do not overlap take the halves as steps.
  it.each<[number[], LinkOptions]>([
    [[1, 1], {}],
    [[1, 1, 1], { wire: "f16", collective: "mesh", cipher: "chacha20-poly1305" }],
    [[2, 0, 1], { wire: "q8_0", collective: "ring" }],
    [[1, 3], { wire: "f16", collective: "star" }],
  ])("in proportion %j write to the bit what they write without overlap, linked by %j", async (shares, links) => {
    await using ranks = await Ranks.start(demo, shares, { ...options, slots: 4 }, links);
    const part = (slot: number, first: number, count: number) => ({
      slot,
      tokens: prompt.slice(first, first + count),
      position: first,
    });
    // 200 tokens: the border goes through the second part, of which 5 outputs lie before it.
    const whole = [
      { ...part(0, 0, 90), outputs: 40 },
      { ...part(1, 0, 70), outputs: 65 },
      { ...part(2, 0, 1), outputs: 1 },
      { ...part(3, 0, 39), outputs: 39, hidden: true },
    ];
    const firstHalf = [whole[0]!, { ...part(1, 0, 10), outputs: 5 }];
    const secondHalf = [{ ...part(1, 10, 60), outputs: 60 }, ...whole.slice(2)];
    const before = ranks.first.statistics.collectives;
    const overlapping = (await ranks.first.step(whole)).slice();
    expect(ranks.first.statistics.collectives - before).toBeGreaterThan(1.5 * ranks.first.description.blocks.length);
    await ranks.unlink();
    await ranks.link({ ...links, overlap: false });
    const [first, second] = [(await ranks.first.step(firstHalf)).slice(), await ranks.first.step(secondHalf)];
    expect(overlapping.length).toBe(first.length + second.length);
    expect(Buffer.compare(bytesOf(overlapping), Buffer.concat([bytesOf(first), bytesOf(second)]))).toBe(0);
  });
});

describe("ranks that stream blocks while they communicate and compute", () => {
  let directory: string;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "stellium-overlap-"));
  });
  afterAll(() => rm(directory, { recursive: true }));

  it("have each block in memory for both halves, and write to the bit what they write without a window", async () => {
    const cut = await cutRanks(demo, [2, 1], directory);
    const written: Float32Array[][] = [];
    for (const isPinned of [() => true, () => false]) {
      await using ranks = await Ranks.of(await streamedRanks(cut, 1, isPinned), options);
      written.push(await logitsOf(ranks.first));
    }
    for (const [i, logits] of written[1]!.entries())
      expect(Buffer.compare(bytesOf(logits), bytesOf(written[0]![i]!))).toBe(0);
  });
});

describe("communication threads", skipUnless("linux"), () => {
  const threads = () => readdirSync("/proc/self/task").length;
  const descriptors = () => readdirSync("/proc/self/fd").length;

  /** How many threads a number of ranks takes. */
  async function threadsOf(shares: number[], batch: number, links: LinkOptions = {}): Promise<number> {
    const before = [threads(), descriptors()];
    let taken: number;
    {
      await using ranks = await Ranks.start(demo, shares, { ...engineDefaults, batch }, links);
      await ranks.first.step({ tokens: prompt.slice(0, 30), position: 0, outputs: 1 });
      await vi.waitFor(() => expect(threads() - before[0]!).toBeLessThanOrEqual(2 * shares.length));
      taken = threads() - before[0]!;
    }
    await vi.waitFor(() => expect([threads(), descriptors()]).toEqual(before), { timeout: 60_000 });
    return taken;
  }

  it("are one for each rank that divides steps, and leave nothing behind", async () => {
    // The first engine of a process starts threads of the libraries that stay.
    await threadsOf([1], 512).catch(() => {});
    expect(await threadsOf([1], 512)).toBe(1);
    expect(await threadsOf([1, 1], 63)).toBe(2);
    expect(await threadsOf([1, 1], 512, { overlap: false })).toBe(2);
    expect(await threadsOf([1, 1], 512)).toBe(4);
  });

  it("end after a link was lost, too", async () => {
    const before = threads();
    {
      await using ranks = await Ranks.start(demo, [1, 1], engineDefaults);
      const lost = ranks.first.step({ tokens: prompt, position: 0, outputs: 1 });
      ranks.engines[1]!.cutLinks();
      await expect(lost).rejects.toMatchObject({ code: "LINK_LOST" });
    }
    await vi.waitFor(() => expect(threads()).toBe(before), { timeout: 60_000 });
  });
});
