import { afterEach, describe, expect, it, vi } from "vitest";
import { Member, type RankPlace } from "#stellium/cluster/member";
import type { LinkSetup } from "#stellium/engine/links/rankLinks";
import { connectedPair, session } from "./pair.ts";

/** A place of which a worker that does nothing is told, and nothing else is used. */
const place = {
  ...{ size: 3, session, share: "ab".repeat(8), blocks: [] },
  plan: { rank: 1, shares: [1, 1, 1], engine: { threads: 1 }, model: { hash: "ef".repeat(32) } },
} as unknown as RankPlace;

const key = Buffer.alloc(32).toString("base64");

/** Links to so many others. */
function linksTo(peers: number): LinkSetup {
  const ranks = Array.from({ length: peers }, (_, i) => (i === 0 ? 0 : i + 1));
  return {
    ...{ rank: 1, size: peers + 1, cipher: "aes-256-gcm", wire: "f16", collective: "auto" },
    peers: ranks.map((rank) => ({ rank, host: "127.0.0.1", port: 4000, sendKey: key, receiveKey: key })),
  };
}

afterEach(() => {
  vi.useRealTimers();
});

describe("a worker with a place", () => {
  it("says once where it listens, however often that is waited for, until it is told to open links", async () => {
    const { worker, coordinator, close } = await connectedPair();
    const member = await Member.place(worker, place);
    const given = new AbortController();
    const first = member.listening(given.signal);
    given.abort("another worker was lost");
    await expect(first).rejects.toMatchObject({ code: "ABORTED" });
    await coordinator.channel.send({ type: "ready", phase: "listening", dataPort: 4000 });
    const { signal } = new AbortController();
    for (let i = 0; i < 2; i++) expect(await member.listening(signal)).toMatchObject({ port: 4000 });
    await member.link(linksTo(2));
    const again = member.listening(signal);
    await coordinator.channel.send({ type: "ready", phase: "listening", dataPort: 5000 });
    expect(await again).toMatchObject({ port: 5000 });
    await close();
  });

  it("is not let go for an attempt to link that has ended because another worker was lost", async () => {
    const { worker, close } = await connectedPair();
    const member = await Member.place(worker, place);
    await member.link(linksTo(2));
    const attempt = new AbortController();
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
    const linked = member.linked(attempt.signal).catch((error: unknown) => error);
    attempt.abort("another worker was lost");
    expect(await linked).toMatchObject({ code: "ABORTED" });
    await vi.advanceTimersByTimeAsync(600_000);
    vi.useRealTimers();
    expect(worker.channel.isOpen).toBe(true);
    await close();
  });
});

describe("a worker that does not open its links", () => {
  it.each([
    [2, 34_000],
    [63, 156_000],
  ])("is let go after a time that grows with them: with %i, after %i ms", async (peers, patienceMs) => {
    const { worker, close } = await connectedPair();
    const member = await Member.place(worker, place);
    await member.link(linksTo(peers));
    // What follows up to the real timers happens at once, so that heartbeats go on as if no time had passed.
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
    let late = false;
    const linked = member.linked(new AbortController().signal).catch((error: unknown) => {
      late = true;
      return error;
    });
    await vi.advanceTimersByTimeAsync(patienceMs - 1000);
    expect(late).toBe(false);
    await vi.advanceTimersByTimeAsync(2000);
    vi.useRealTimers();
    expect(await linked).toMatchObject({
      code: "WORKER_LOST",
      message: expect.stringContaining("it did not do as it was told in time"),
    });
    await worker.channel.ended;
    expect(member.state).toBe("lost");
    await close();
  });
});
