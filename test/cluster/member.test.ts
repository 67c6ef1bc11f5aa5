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
    const linked = member.linked().catch((error: unknown) => {
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
