import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, it, vi } from "vitest";
import type { Engine } from "#stellium/engine/engine";
import { argmax, engineDefaults, logSoftmax, startEngine } from "./oracle.ts";
import { type LinkOptions, Ranks } from "./ranks.ts";

const demo = fileURLToPath(new URL("../../models/stellium-shakespeare-5m-q8_0.gguf", import.meta.url));
const prompt = Array.from({ length: 200 }, (_, i) => (i * 37 + 11) % 1000);
const outputs = 150;
const options = { ...engineDefaults, outputs };

/** Logits of the last tokens of the prompt, by position. */
async function logitsOf(engine: Engine): Promise<Float32Array[]> {
  const logits = await engine.step({ tokens: prompt, position: 0, outputs });
  const size = logits.length / outputs;
  return Array.from({ length: outputs }, (_, i) => logits.slice(i * size, (i + 1) * size));
}

/** How much the log-probabilities of the likeliest tokens differ, on average: single ones may be far off by rounding. */
function difference(ours: readonly Float32Array[], theirs: readonly Float32Array[]): number {
  const differences = theirs.map((logits, i) => {
    const token = argmax(logits);
    return Math.abs(logSoftmax(ours[i]!)[token]! - logSoftmax(logits)[token]!);
  });
  return differences.reduce((sum, each) => sum + each) / outputs;
}

describe("ranks that communicate while they compute", () => {
  let alone: Float32Array[];
  beforeAll(async () => {
    await using engine = await startEngine(demo, { outputs });
    alone = await logitsOf(engine);
  });

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
    for (const engine of ranks.engines) engine.cutLinks();
    await Promise.all(ranks.followed);
    await ranks.link({ overlap: false });
    expect(difference(await logitsOf(ranks.first), overlapping)).toBeLessThanOrEqual(0.03);
  });

  it("stop together when asked to, and go on", async () => {
    await using ranks = await Ranks.start(demo, [1, 1, 1], options);
    for (const delay of [0, 1, 5, 20]) {
      const stopper = new AbortController();
      const stopped = ranks.first.step({ tokens: prompt, position: 0, outputs }, stopper.signal);
      const settled = stopped.then(
        () => "complete",
        (error) => error.code,
      );
      if (delay > 0) await new Promise((resolve) => setTimeout(resolve, delay));
      stopper.abort("enough");
      const outcome = await settled;
      if (delay === 0) expect(outcome).toBe("ABORTED");
      else expect(["ABORTED", "complete"]).toContain(outcome);
      expect(difference(await logitsOf(ranks.first), alone)).toBeLessThanOrEqual(0.03);
    }
  });

  it.each([0, 1, 2])("all learn that rank %i cut its links, and can be linked again", async (rank) => {
    await using ranks = await Ranks.start(demo, [1, 1, 1], options);
    const lost = expect(ranks.first.step({ tokens: prompt, position: 0, outputs })).rejects.toMatchObject({
      code: "LINK_LOST",
    });
    ranks.engines[rank]!.cutLinks();
    await lost;
    for (const engine of ranks.engines) engine.cutLinks();
    for (const error of await Promise.all(ranks.followed)) expect(error).toMatchObject({ code: "LINK_LOST" });
    await ranks.link({});
    expect(difference(await logitsOf(ranks.first), alone)).toBeLessThanOrEqual(0.03);
  });
});

describe.skipIf(process.platform !== "linux")("communication threads (seen on Linux only)", () => {
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
    await vi.waitFor(() => expect([threads(), descriptors()]).toEqual(before), { timeout: 10_000 });
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
    await vi.waitFor(() => expect(threads()).toBe(before), { timeout: 10_000 });
  });
});
