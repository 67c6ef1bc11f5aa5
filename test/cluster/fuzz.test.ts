import { once } from "node:events";
import { connect } from "node:net";
import type { TLSSocket } from "node:tls";
import { describe, expect, it, vi } from "vitest";
import { FrameDecoder } from "#stellium/cluster/control/frames";
import { attackedLimits } from "../../bench/fuzz/attackedDevice.mjs";
import { insider } from "../../bench/fuzz/insiders.mjs";
import { framed } from "../../bench/fuzz/messages.mjs";
import { Random } from "../../bench/fuzz/random.mjs";
import { misdeeds } from "../../bench/fuzz/replacement.mjs";
import { overhear, strangers } from "../../bench/fuzz/strangers.mjs";
import { attackAsCoordinator, attackAsWorker, attackCluster, attackLinks, takePlaces } from "../../bench/fuzz.mjs";
import { closing, eventually, listen, token } from "./pair.ts";

const seed = 20_410;

/** As much as a process may grow by garbage that was collected late. */
const allowedGrowth = 200e6;

/** What a device may say of a coordinator that is up to no good, before it joins again. */
const expectedFailures = ["PROTOCOL_VIOLATION", "MODEL_UNSUPPORTED", "SHARES_INVALID", "OUT_OF_MEMORY", "CACHE_FULL"];

// More, and longer: `npm run bench -- fuzz`, and `npm run bench -- fuzz --peers 50000`. Other tests send 20,000 messages to a channel, and as many frames to a link.
describe("live devices", () => {
  it("answer rightly after strangers and insiders have sent thousands of frames", async () => {
    const outcome = await attackCluster({ seed, count: 1000 }, { seed, count: 2500 });
    const { expected, dropped, grown } = outcome;
    expect(expected).not.toMatch(/^failed/);
    expect(outcome).toMatchObject({ afterStrangers: expected, afterInsiders: expected, sound: true });
    expect(dropped).toBeGreaterThan(300);
    expect(grown).toBeLessThan(allowedGrowth);
  });

  it("answer rightly after workers that had a place have said what they should not", async () => {
    const { expected, lost, answer, grown, sent, placed, sound } = await attackAsWorker({ seed, count: 60 });
    expect(expected).not.toMatch(/^failed/);
    expect(lost).toMatch(/^failed: the device (first|second) was lost: /);
    expect({ answer, sound }).toEqual({ answer: expected, sound: true });
    expect([sent, placed].map((count) => count > 10)).toEqual([true, true]);
    expect(grown).toBeLessThan(allowedGrowth);
  });

  it("keep to their limits under a coordinator that says what it should not, and join an honest one then", async () => {
    const { answer, loaded, linked, failures, used } = await attackAsCoordinator({ seed, count: 150 });
    expect(answer).not.toMatch(/^failed/);
    expect([loaded, linked].map((count) => count > 0)).toEqual([true, true]);
    const codes = failures.flatMap((counts) => Object.keys(counts));
    expect(codes.filter((code) => !expectedFailures.includes(code))).toEqual([]);
    for (const { peak, usedBytes } of used) {
      expect(peak).toBeLessThan(attackedLimits.memory);
      expect(usedBytes).toBeLessThan(attackedLimits.cache);
    }
  });

  it("drop exactly the device that misbehaves in its place, and take the next", async () => {
    // The last one is noticed when opening links has taken as long as it may: 20 s.
    const { expected, outcomes } = await takePlaces(seed, Object.keys(misdeeds).slice(0, -1));
    expect(outcomes).toHaveLength(6);
    for (const { lost, answer } of outcomes) {
      expect(lost).toMatch(/^failed: the device (first|sound) was lost: /);
      expect(answer).toBe(expected);
    }
  });

  it("link up among strangers, and again after hostile frames of a rank that holds the keys", async () => {
    const outcome = await attackLinks({ seed, count: 1000 }, { seed, count: 200 });
    expect(outcome).toEqual({ afterStrangers: true, outcomes: { LINK_LOST: 200 }, afterFrames: true });
  });
});

/** One more device that joins: its connection, or undefined if it is turned away since too many wait. */
async function admitted(port: number): Promise<TLSSocket | undefined> {
  const socket = await insider(port, token);
  socket.write(framed({ type: "ping", sequence: 0 }));
  let said = "";
  while (!said.includes("takes no more devices")) {
    if (said.includes('"pong"')) return socket;
    said += String((await once(socket, "data"))[0]);
  }
  socket.destroy();
  return undefined;
}

describe("a listener", () => {
  it("parses nothing of strangers, and makes no room for what they announce", async () => {
    const { listener, drops } = await listen();
    const recorded = [await overhear(listener.port, token)];
    await eventually(() => listener.pending === 0);
    const decode = vi.spyOn(FrameDecoder.prototype, "push");
    const parse = vi.spyOn(JSON, "parse");
    const allocate = vi.spyOn(Buffer, "allocUnsafeSlow");
    await strangers(listener.port, 400, new Random(seed), recorded);
    await eventually(() => listener.pending === 0);
    expect([decode, parse, allocate].map(({ mock }) => mock.calls.length)).toEqual([0, 0, 0]);
    vi.restoreAllMocks();
    expect(drops.length).toBeGreaterThan(300);
    await listener.close();
  });

  it("keeps no room for devices that have joined and gone before they were taken", async () => {
    const { listener } = await listen();
    const waiting: TLSSocket[] = [];
    for (let last = await admitted(listener.port); last !== undefined; last = await admitted(listener.port)) {
      waiting.push(last);
    }
    expect(waiting).toHaveLength(64);
    for (const socket of waiting) socket.destroy();
    let next: TLSSocket | undefined;
    // Their ends may not all have been seen yet.
    while (next === undefined) next = await admitted(listener.port);
    next.destroy();
    await listener.close();
  });

  it("does not wait for who begins a handshake and says one byte at a time", async () => {
    const { listener } = await listen({ limits: { deadlineMs: 300, mostPending: 4 } });
    const [recorded] = [await overhear(listener.port, token)];
    const started = performance.now();
    const slow = connect(listener.port, "127.0.0.1");
    const timer = setInterval((at: { next: number }) => slow.write(recorded.subarray(at.next, ++at.next)), 20, {
      next: 0,
    });
    await closing(slow);
    clearInterval(timer);
    expect(performance.now() - started).toBeLessThan(5000);
    await eventually(() => listener.pending === 0);
    await listener.close();
  });
});
