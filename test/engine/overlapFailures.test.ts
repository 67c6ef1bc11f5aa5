import { beforeAll, describe, expect, it, vi } from "vitest";
import { demo, difference, logitsOf, options, outputs, prompt } from "./dividedPrompt.ts";
import { startEngine } from "./oracle.ts";
import { Ranks } from "./ranks.ts";

let alone: Float32Array[];
beforeAll(async () => {
  await using engine = await startEngine(demo, { outputs });
  alone = await logitsOf(engine);
});

describe("ranks that communicate while they compute", () => {
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
    for (const error of await ranks.unlink()) expect(error).toMatchObject({ code: "LINK_LOST" });
    await ranks.link({});
    expect(difference(await logitsOf(ranks.first), alone)).toBeLessThanOrEqual(0.03);
  });

  it("cannot be linked to one that opens only one set of links, and can be when it opens both", async () => {
    await using ranks = await Ranks.start(demo, [1, 1], options);
    await ranks.unlink();
    const linking = ranks.link({}, (rank) => ({ overlap: rank === 0, deadlineMs: 2500 }));
    await expect(linking).rejects.toMatchObject({ code: "LINK_LOST", values: { rank: 0, peer: 1 } });
    await ranks.link({});
    expect(difference(await logitsOf(ranks.first), alone)).toBeLessThanOrEqual(0.03);
  });
});

describe("a rank that opens its links and does not take part in measuring them", () => {
  it("holds up the others for as long as measuring may take, not for as long as a sum", async () => {
    await using ranks = await Ranks.start(demo, [1, 1], options);
    await ranks.unlink();
    const started = performance.now();
    const limits = { overlap: false, deadlineMs: 2000, measuringMs: 500 };
    const linking = ranks.link({}, (rank) => ({ ...limits, collective: rank === 0 ? "auto" : "exchange" }));
    await expect(linking).rejects.toMatchObject({ code: "LINK_LOST", values: { rank: 0, peer: 1 } });
    expect(performance.now() - started).toBeLessThan(60_000);
  });
});

describe("in the middle of an overlapping step, whose first sums wait for a rank,", () => {
  const traced = { ...options, trace: true };

  /** A step under way: ranks 0 and 1 have computed the first block of both halves, rank 2 has not begun. */
  async function stuckStep(ranks: Ranks, signal?: AbortSignal): Promise<{ outcome: Promise<unknown> }> {
    // Few enough that what is sent to the idle rank fits into its socket.
    const outcome = ranks.first.step({ tokens: prompt.slice(0, 64), position: 0, outputs: 1 }, signal).then(
      () => "complete",
      (error: unknown) => error,
    );
    const computed = (rank: number) =>
      [...ranks.engines[rank]!.trace.events].filter(({ name }) => name === "attention 0");
    await vi.waitFor(() => expect([0, 1].map((rank) => computed(rank).length)).toEqual([2, 2]), { timeout: 60_000 });
    return { outcome };
  }

  it.each([0, 1, 2])("links that rank %i cuts end it on all, and can be opened again", async (rank) => {
    await using ranks = await Ranks.start(demo, [1, 1, 1], traced, { idle: 2 });
    const { outcome } = await stuckStep(ranks);
    ranks.engines[rank]!.cutLinks();
    ranks.follow(2);
    // Nobody else cuts anything: they learn of it from the links.
    expect(await outcome).toMatchObject({ code: "LINK_LOST", values: { rank: 0 } });
    expect(await ranks.followed[0]).toMatchObject({ code: "LINK_LOST", values: { rank: 1 } });
    expect(await ranks.followed[1]).toMatchObject({ code: "LINK_LOST", values: { rank: 2 } });
    await ranks.unlink();
    await ranks.link({});
    expect(difference(await logitsOf(ranks.first), alone)).toBeLessThanOrEqual(0.03);
  });

  it("an abort takes effect on all when the sums arrive, and long before the end", async () => {
    await using ranks = await Ranks.start(demo, [1, 1, 1], traced, { idle: 2 });
    const stopper = new AbortController();
    const { outcome } = await stuckStep(ranks, stopper.signal);
    stopper.abort("enough");
    ranks.follow(2);
    expect(await outcome).toMatchObject({ code: "ABORTED" });
    const blocks = ranks.engines.map(
      ({ trace }) => [...trace.events].filter(({ name }) => name.startsWith("sum ")).length,
    );
    for (const sums of blocks) expect(sums).toBeLessThanOrEqual(4);
    expect(difference(await logitsOf(ranks.first), alone)).toBeLessThanOrEqual(0.03);
  });

  it("a rank that fails lets all others know at once", async () => {
    // Rank 1 was told of smaller steps, and takes this one for a violation.
    const ofRank = (rank: number) => ({ ...options, batch: rank === 1 ? 100 : options.batch });
    await using ranks = await Ranks.start(demo, [1, 1, 1], ofRank);
    const started = performance.now();
    await expect(ranks.first.step({ tokens: prompt, position: 0, outputs })).rejects.toMatchObject({
      code: "LINK_LOST",
      values: { peer: 1 },
    });
    const ended = await Promise.all(ranks.followed);
    expect(ended).toMatchObject([{ code: "PROTOCOL_VIOLATION" }, { code: "LINK_LOST" }]);
    expect(performance.now() - started).toBeLessThan(10_000);
  });
});
