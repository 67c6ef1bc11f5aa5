import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { StatusBoard } from "#stellium/cluster/status/board";
import { StatusFeed } from "#stellium/cluster/status/feed";
import { limitsOf } from "#stellium/cluster/status/limits";
import { RankSamples, SpeedSamples } from "#stellium/cluster/status/samples";
import { type ClusterStatus, clusterStatus } from "#stellium/cluster/status/schema";
import { withoutToken } from "#stellium/cluster/status/snapshot";
import { timelineOf } from "#stellium/cluster/status/timeline";

const idle = { steps: 10, computeMs: 0, diskMs: 0, wireMs: 0, cipherMs: 0, waitMs: 0 };

describe("what limits a cluster", () => {
  it("is nothing where nothing was computed", () => {
    expect(limitsOf([{ rank: 0, ...idle, steps: 0 }])).toEqual({ ranks: new Map(), bottleneck: null });
  });

  it("is what the device spends most on that waits least", () => {
    const fast = { rank: 0, ...idle, computeMs: 100, wireMs: 20, waitMs: 400 };
    const slow = { rank: 1, ...idle, computeMs: 450, wireMs: 20, waitMs: 50 };
    const { ranks, bottleneck } = limitsOf([fast, slow]);
    expect(bottleneck).toEqual({ rank: 1, limit: "compute" });
    expect(ranks.get(0)).toEqual({
      limit: "waiting",
      step: { computeMs: 10, diskMs: 0, networkMs: 7, cipherMs: 0, waitMs: 35 },
    });
  });

  it("is the network where all wait alike, and the disk where weights are late", () => {
    const waiting = [0, 1, 2].map((rank) => ({ rank, ...idle, computeMs: 100, waitMs: 300 }));
    expect(limitsOf(waiting).bottleneck).toEqual({ rank: 0, limit: "network" });
    const reading = { rank: 3, ...idle, computeMs: 100, diskMs: 250, waitMs: 50 };
    expect(limitsOf([...waiting, reading]).bottleneck).toEqual({ rank: 3, limit: "disk" });
  });
});

describe("samples", () => {
  const figures = (steps: number, bytesSent: number) => ({ steps, stepComputeMs: steps * 2, bytesSent });

  it("tell what was done between two of them, and of a slow cluster what was done last", () => {
    const samples = new RankSamples(undefined);
    samples.take(figures(100, 1000), [], 0);
    expect(samples.times).toBeUndefined();
    samples.take(figures(110, 3000), [1, 0, 0, 0, 0], 2000);
    expect(samples.times).toMatchObject({ steps: 10, computeMs: 20 });
    expect(samples.rates.sent).toBe(1000);
    samples.take(figures(110, 3000), [], 3000);
    expect(samples.times).toMatchObject({ steps: 10, computeMs: 20 });
    expect(samples.rates.sent).toBe(0);
  });

  it("tell how experts were found, and keep that while none are wanted", () => {
    const samples = new RankSamples(undefined);
    const of = (expertHits: number, expertMisses: number, decodedTokens: number, decodedExpertBytes: number) => ({
      ...{ expertHits, expertMisses, decodedTokens, decodedExpertBytes },
    });
    samples.take(of(100, 100, 5, 1e6), [], 0);
    expect(samples.experts).toEqual({ hitRate: null, bytesPerToken: null });
    samples.take(of(130, 110, 15, 6e6), [], 1000);
    expect(samples.experts).toEqual({ hitRate: 0.75, bytesPerToken: 5e5 });
    samples.take(of(130, 110, 15, 6e6), [], 2000);
    expect(samples.experts).toEqual({ hitRate: 0.75, bytesPerToken: 5e5 });
  });

  it("give the speed of the last seconds", () => {
    const samples = new SpeedSamples();
    const totals = (count: number) => ({ generatedTokens: count, promptTokens: 0, steps: count, seconds: count / 10 });
    expect(samples.speed).toEqual({ tokensPerSecond: 0, promptTokensPerSecond: 0, stepMs: null });
    for (let second = 0; second <= 10; second++) samples.take(totals(second * 3), second * 1000);
    expect(samples.speed).toEqual({ tokensPerSecond: 3, promptTokensPerSecond: 0, stepMs: 100 });
    for (let second = 11; second <= 20; second++) samples.take(totals(30), second * 1000);
    expect(samples.speed.tokensPerSecond).toBe(0);
  });
});

describe("the timeline of a step", () => {
  it("is as long as the step, whatever the number of blocks and devices", () => {
    const times = fc.array(fc.integer({ min: 0, max: 1000 }), { maxLength: 3000 });
    fc.assert(
      fc.property(times, fc.integer({ min: 1, max: 64 }), (values, devices) => {
        const whole = values.slice(0, values.length - (values.length % 5));
        const timeline = timelineOf(whole, devices);
        const rows = timeline?.rows ?? [];
        expect(rows.length).toBeLessThanOrEqual(128);
        const sum = (numbers: readonly number[]) => numbers.reduce((total, value) => total + value, 0);
        expect(sum(rows.flat())).toBeCloseTo(sum(whole), 3);
      }),
    );
  });
});

describe("a feed", () => {
  it("tells before there is a model, at every change, and nothing when nobody listens any more", async () => {
    const board = new StatusBoard();
    const feed = new StatusFeed({ version: "1.2.3", board, work: () => undefined });
    const told: ClusterStatus[] = [];
    const unsubscribe = feed.subscribe((status) => told.push(status));
    expect(clusterStatus.parse(told[0])).toMatchObject({
      version: "1.2.3",
      state: "starting",
      devices: [],
      join: null,
    });
    board.note("lost", "pi was lost", "pi");
    await expect.poll(() => told.at(-1)?.events).toMatchObject([{ kind: "lost", device: "pi" }]);
    unsubscribe();
    const count = told.length;
    board.note("mended", "all devices are there again", null);
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(told.length).toBe(count);
    expect((await feed.current()).events.map(({ kind }) => kind)).toEqual(["lost", "mended"]);
  });

  it("keeps the last events only", async () => {
    const board = new StatusBoard();
    for (let i = 0; i < 60; i++) board.note("joined", `${i}`, null);
    expect(board.events.length).toBe(50);
    expect(board.events.at(-1)?.text).toBe("59");
  });

  it("can leave out the token, and nothing else", () => {
    const join = { joined: 1, wanted: 2, local: false, address: "a:1", command: "stellium join a:1 --token secret" };
    const status = { version: "1", join } as ClusterStatus;
    expect(withoutToken(status)).toEqual({ version: "1", join: { ...join, command: null } });
  });
});
