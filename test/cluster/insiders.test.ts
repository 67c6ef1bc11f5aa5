import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, describe, expect, it, vi } from "vitest";
import { dataFrame } from "#stellium/cluster/control/frames";
import type { CoordinatorMessage } from "#stellium/cluster/control/messages";
import { createServer, secureAcceptor } from "#stellium/cluster/control/secure";
import { Membership } from "#stellium/cluster/identity/membership";
import { Mailbox } from "#stellium/cluster/mailbox";
import { Member, type RankPlace } from "#stellium/cluster/member";
import { rankOf, rankPlanSchema } from "#stellium/cluster/rankPlan";
import { clockAhead, receiveTrace, type TracePeer } from "#stellium/cluster/traceTransfer";
import { work } from "#stellium/cluster/worker";
import { Engine } from "#stellium/engine/engine";
import { type TraceEvent, traceClock } from "#stellium/trace/events";
import { SharedReading } from "#stellium/weights/sharedReading";
import type { TensorSlice } from "#stellium/weights/slice";
import { Conversation } from "../../bench/fuzz/conversation.mjs";
import { Script } from "../../bench/fuzz/evilCoordinator.mjs";
import { insider } from "../../bench/fuzz/insiders.mjs";
import { framed } from "../../bench/fuzz/messages.mjs";
import { memorySource } from "../weights/sliceFixture.ts";
import { admit, connectedPair, eventually, listen, session, token } from "./pair.ts";

const demo = fileURLToPath(new URL("../../models/stellium-shakespeare-5m-q8_0.gguf", import.meta.url));
const script = await Script.of(demo);
afterAll(() => script.close());

afterEach(() => {
  vi.useRealTimers();
});

/** A block of so many bytes. */
function blockOf(bytes: number): TensorSlice[] {
  const shape = [bytes / 4];
  const tensor = { name: "a", type: "F32", shape, file: 0, offset: 0, bytes } as const;
  return [
    {
      name: "a",
      kind: "vector",
      type: "F32",
      tensor,
      rows: { start: 0, count: 1 },
      columns: { start: 0, count: bytes / 4 },
    },
  ];
}

function placeOf(more: Partial<RankPlace> = {}): RankPlace {
  const blocks = [blockOf(4000), blockOf(8000), blockOf(4000)];
  const reading = new SharedReading([memorySource(8000)], { readers: 1, shared: false });
  reading.open();
  const plan = { rank: 1, shares: [1, 1], engine: { threads: 1 }, model: { hash: "ef".repeat(32) } };
  return { ...{ size: 2, session, share: "ab".repeat(8), blocks, reading }, ...more, plan } as unknown as RankPlace;
}

describe("a device that knows the token and has a place", () => {
  it("is let go if it asks for blocks out of order, twice, or its slice again and again", async () => {
    for (const requests of [[[1, 0]], [[0, 0]], [[7]], [[0, 1, 2], [1], [1]]]) {
      const { worker, coordinator, close } = await connectedPair();
      await Member.place(worker, placeOf());
      for (const blocks of requests) void coordinator.channel.send({ type: "slice-request", blocks }).catch(() => {});
      void (async () => {
        for await (const _ of coordinator.channel);
      })().catch(() => {});
      expect((await worker.channel.ended).reason).toMatch(/asks for blocks out of order|no block 7|again and again/);
      await close();
    }
  });

  it("is let go if it does not load its slice in time, not counting how long this device reads for it", async () => {
    const { worker, coordinator, close } = await connectedPair();
    const held = deferredBlock();
    const place = placeOf();
    const reading = { join: () => ({ begin: async () => {}, block: held.block, [Symbol.dispose]: () => {} }) };
    const member = await Member.place(worker, { ...place, reading: reading as never });
    let late: string | undefined;
    // Heartbeats go on as if no time had passed.
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
    const loaded = member.loaded().catch((error: Error) => {
      late = error.message;
    });
    await coordinator.channel.send({ type: "slice-request", blocks: [0] });
    await held.asked;
    await vi.advanceTimersByTimeAsync(3_600_000);
    expect(late).toBeUndefined();
    held.release();
    await held.taken;
    await vi.advanceTimersByTimeAsync(599_000);
    expect(late).toBeUndefined();
    await vi.advanceTimersByTimeAsync(2_000);
    vi.useRealTimers();
    await loaded;
    expect(late).toMatch(/^the device pi was lost: it had not loaded its slice after 10 min/);
    expect((await coordinator.channel.ended).reason).toContain("had not loaded");
    await close();
  });

  it.each(["statistics", "profile"] as const)("is let go if it does not answer for its %s", async (what) => {
    const { worker, coordinator, close } = await connectedPair();
    const member = await Member.place(worker, placeOf());
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
    const answer = member[what]().catch((error: unknown) => error);
    for await (const { type } of coordinator.channel) if (type.endsWith("-request")) break;
    await vi.advanceTimersByTimeAsync(31_000);
    vi.useRealTimers();
    expect(await answer).toMatchObject({ code: "WORKER_LOST", message: expect.stringContaining("pi") });
    await close();
  });

  it("fills no memory with messages or data that nobody waits for", async () => {
    const { worker, coordinator, close } = await connectedPair();
    await Member.place(worker, placeOf());
    const flood = async () => {
      for (let sent = 0; sent < 200; sent++) await coordinator.channel.sendData(1, 0, new Uint8Array(2 ** 20));
    };
    void (async () => {
      for await (const _ of coordinator.channel);
    })().catch(() => {});
    await expect(flood()).rejects.toMatchObject({ code: "COORDINATOR_LOST" });
    expect(worker.channel.traffic.received).toBeLessThan(40e6);
    await close();
  });

  it("is lost if it is heard but takes nothing of what it is sent", async () => {
    const { listener, workers } = await listen({
      heartbeat: { intervalMs: 20, lostAfterMs: 60_000, untakenAfterMs: 400 },
    });
    const socket = await insider(listener.port, token);
    const beat = setInterval(() => socket.write(framed({ type: "slice-complete" })), 50);
    const { channel } = await admit(workers);
    const plan = { ...script.plan, description: Array(100_000).fill(1) } as unknown as CoordinatorMessage;
    const sending = async () => {
      for (;;) await channel.send(plan);
    };
    await expect(sending()).rejects.toMatchObject({
      code: "WORKER_LOST",
      message: expect.stringContaining("it has taken nothing of what it is sent for 0.4 s"),
    });
    clearInterval(beat);
    socket.destroy();
    await listener.close();
  });
});

describe("a device whose coordinator is gone", () => {
  /** Joins coordinators that say one of these things after the other; ends when all has been said. */
  async function joinAll(talks: readonly ((conversation: Conversation) => Promise<void>)[]): Promise<void> {
    const left = [...talks];
    const stop = new AbortController();
    const accept = secureAcceptor(() => token.credential.key);
    const server = createServer((raw) => {
      const { secure } = accept(raw);
      secure
        .on("error", () => {})
        .once("secure", async () => {
          const conversation = new Conversation(secure);
          expect(await conversation.next("hello")).toBeDefined();
          conversation.send(script.welcome);
          await left.shift()?.(conversation);
          conversation.close();
          if (left.length === 0) stop.abort();
        });
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const cacheDir = mkdtempSync(join(tmpdir(), "stellium-gone-"));
    const device = { membership: Membership.ofToken(token), threads: 1, memory: 1e9, cacheDir };
    const working = work({ host: "127.0.0.1", port, ...device, signal: stop.signal });
    await expect(working).rejects.toMatchObject({ code: "ABORTED" });
    server.close();
    rmSync(cacheDir, { recursive: true });
  }

  /** Sends the blocks that are asked for, if any. */
  async function bring(conversation: Conversation): Promise<void> {
    const request = await conversation.next("slice-request", "ready");
    for (const [stream, index] of (request?.blocks ?? []).entries()) {
      const { announced, bytes, ended } = await script.block(index, stream);
      conversation.send(announced);
      conversation.raw(Buffer.concat(dataFrame(stream, 0, bytes)));
      conversation.send(ended);
    }
    if (request?.type === "slice-request") expect(await conversation.next("ready")).toMatchObject({ phase: "loaded" });
  }

  it("frees what it has loaded before it loads for another plan, and never uses it again", async () => {
    const starting = vi.spyOn(Engine, "start");
    const other = { ...script.plan, engine: { ...script.plan.engine, context: 32 } };
    const phases: (string | undefined)[] = [];
    const complete = async (conversation: Conversation) => {
      conversation.send(script.plan);
      await bring(conversation);
      phases.push((await conversation.next("ready"))?.phase);
    };
    const goneMeanwhile = async (conversation: Conversation) => {
      const before = starting.mock.results.length;
      conversation.send(other);
      // It loads: its slice is there already.
      await eventually(() => starting.mock.results.length > before);
    };
    await joinAll([complete, goneMeanwhile, complete, goneMeanwhile]);
    expect(phases).toEqual(["listening", "listening"]);
    const engines = await Promise.all(
      starting.mock.results.map(({ value }) => (value as Promise<Engine>).catch(() => undefined)),
    );
    starting.mockRestore();
    expect(engines.length).toBeGreaterThanOrEqual(3);
    for (const engine of engines) {
      if (engine !== undefined)
        await expect(engine.listen("127.0.0.1")).rejects.toMatchObject({ code: "ENGINE_FAILED" });
    }
  });
});

describe("messages that nobody waits for", () => {
  it("are kept up to 16 MiB, and those that were taken no longer count", async () => {
    const text = "x".repeat(2 ** 20);
    let closed = "";
    let go = () => {};
    const paused = new Promise<void>((resolve) => {
      go = resolve;
    });
    async function* messages() {
      for (let i = 0; i < 15; i++) yield { type: "a", text };
      await paused;
      for (let i = 0; i < 15; i++) yield { type: "a", text };
      expect(closed).toBe("");
      for (let i = 0; i < 2; i++) yield { type: "a", text };
    }
    const stream = Object.assign(messages(), {
      close: async (reason: string) => {
        closed = reason;
      },
    });
    const mailbox = new Mailbox<{ type: string }>(stream, () => new Error("ended"));
    for (let i = 0; i < 15; i++) await mailbox.take("a");
    go();
    await eventually(() => closed !== "");
    expect(closed).toBe("nobody waits for so many messages");
  });
});

describe("a plan", () => {
  const { rank, shares, engine, description: model } = script.plan;
  const plan = { rank, shares, engine, model };
  const first = model.tensors[0]!;

  it("is refused before anything is worked out if its tensors cannot be", () => {
    expect(rankPlanSchema.safeParse(plan).success).toBe(true);
    const withTensors = (tensors: unknown[]) => ({ ...plan, model: { ...model, tensors } });
    const refused: [string, unknown][] = [
      ["a tensor twice", withTensors([...model.tensors, first])],
      ["too many elements", withTensors([...model.tensors, { ...first, name: "b", shape: [2 ** 31, 2 ** 31] }])],
      ["no dimension", withTensors([...model.tensors, { ...first, name: "b", shape: [] }])],
      ["half a block", withTensors([...model.tensors, { ...first, name: "b", type: "Q8_0", shape: [33] }])],
      ["rank 0, which is the coordinator's", { ...plan, rank: 0 }],
      ["negative shares", { ...plan, shares: { ...shares, relative: [1, -1] } }],
    ];
    for (const [what, value] of refused) expect([what, rankPlanSchema.safeParse(value).success]).toEqual([what, false]);
  });

  it("of more layers than tensors is refused without making room for them", () => {
    const metadata = { ...model.metadata, "llama.block_count": 2 ** 24, "llama.attention.sliding_window": 8 };
    const parsed = rankPlanSchema.parse({ ...plan, model: { ...model, metadata } });
    expect(() => rankOf(parsed)).toThrow(
      expect.objectContaining({
        code: "MODEL_UNSUPPORTED",
        message: expect.stringMatching(/16777216 layers, and has \d+ tensors/),
      }),
    );
  });
});

describe("what a worker says that it recorded", () => {
  const event = (more: Partial<TraceEvent> = {}): TraceEvent => {
    return { name: "step", thread: "engine", start: traceClock() - 1000, duration: 10, ...more };
  };
  const peerOf = (parts: readonly (readonly TraceEvent[])[], now = () => traceClock()): TracePeer => {
    const left = [...parts];
    return {
      send: async () => {},
      take: async (type: string) =>
        (type === "clock"
          ? { type, sequence: 0, now: now() }
          : { type, events: left.shift(), dropped: 0, last: left.length === 0 }) as never,
    };
  };

  it("is taken if a rank may have recorded it", async () => {
    const { events } = await receiveTrace(peerOf([[event({ figures: { tokens: 3 } })], [event()]]), 0);
    expect(events.length).toBe(2);
    const ahead = await clockAhead(peerOf([], () => traceClock() + 5e12));
    expect((await receiveTrace(peerOf([[event({ start: traceClock() + 5e12 })]]), ahead)).events.length).toBe(1);
  });

  it.each<[string, TraceEvent]>([
    ["of threads that there are not", event({ thread: "x".repeat(64) })],
    ["from long before", event({ start: -1e18 })],
    ["from the future", event({ start: traceClock() + 1e12 })],
    ["that end before they begin", event({ duration: -5 })],
    [
      "with figures by the hundred",
      event({ figures: Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`f${i}`, i])) }),
    ],
  ])("is refused for spans %s", async (_, bad) => {
    await expect(receiveTrace(peerOf([[event()], [bad]]), 0)).rejects.toMatchObject({ code: "PROTOCOL_VIOLATION" });
  });

  it("is given up after a minute, however often a little comes", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
    const slow: TracePeer = {
      send: async () => {},
      take: () =>
        new Promise((resolve) =>
          setTimeout(() => resolve({ type: "trace", events: [event()], dropped: 0, last: false } as never), 4000),
        ),
    };
    const outcome = receiveTrace(slow, 0).catch((error: Error) => error.message);
    await vi.advanceTimersByTimeAsync(70_000);
    vi.useRealTimers();
    expect(await outcome).toBe("its trace was not complete after 60 s");
  });
});

/** Blocks that come when they are released. */
function deferredBlock() {
  let [ask, release, take] = [() => {}, () => {}, () => {}];
  const asked = new Promise<void>((resolve) => {
    ask = resolve;
  });
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  const taken = new Promise<void>((resolve) => {
    take = resolve;
  });
  async function* block() {
    ask();
    await released;
    yield new Uint8Array(4000);
    take();
  }
  return { asked, taken, release: () => release(), block };
}
