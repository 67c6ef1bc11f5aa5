import { connect, createServer, type Socket as NetSocket, type Server } from "node:net";
import { describe, expect, it } from "vitest";
import { planLinks } from "#stellium/cluster/linkPlan";
import { frameType } from "#stellium/collective/frame";
import { greetingBytes, writeGreeting } from "#stellium/collective/handshake";
import { openWire } from "#stellium/collective/wire";
import { type LinkSet, peersOf } from "#stellium/engine/links/linkSets";
import { closeSocket, connectTo, receiveExact, type Socket, sendAll } from "#stellium/native/sockets";
import { type Act, LinkSetRanks } from "./linkSetRanks.ts";

// Once, before threads do so at the same time.
openWire("f32");

const bothSets: Act[] = [{ open: "engine" }, { open: "communication" }];
const bothSums: Act[] = [{ sum: "engine" }, { sum: "communication" }];

describe("the two sets of links between ranks", () => {
  const addresses = [4001, 4002, 4003].map((port) => ({ host: "127.0.0.1", port }));
  const setups = planLinks(addresses, { wire: "f16", cipher: "aes-256-gcm", collective: "auto" });
  const sets = ["engine", "communication"] as const;

  it("have keys that both ends of a link share, one for each direction", () => {
    for (const set of sets) {
      for (const { rank, peers } of setups) {
        for (const [i, { rank: other }] of peers.entries()) {
          const ours = peersOf(set, { peers })[i]!;
          const theirs = peersOf(set, setups[other]!).find((peer) => peer.rank === rank)!;
          expect(ours.sendKey).toEqual(theirs.receiveKey);
        }
      }
    }
  });

  it("have no key in common, with each other or with what was handed out", () => {
    const hex = (key: Uint8Array) => Buffer.from(key).toString("hex");
    const derived = sets.flatMap((set) =>
      setups.flatMap((setup) => peersOf(set, setup).map((peer) => hex(peer.sendKey))),
    );
    const given = setups.flatMap(({ peers }) => peers.map(({ sendKey }) => hex(Buffer.from(sendKey, "base64"))));
    expect(new Set([...derived, ...given]).size).toBe(derived.length + given.length);
  });
});

describe("opening both sets over one listener", () => {
  it("takes one after the other on every rank, and sums over one do not disturb the other", async () => {
    using ranks = new LinkSetRanks(4);
    const acts: Act[] = [...bothSets, ...bothSums, ...bothSums.toReversed()];
    const outcomes = await Promise.all([0, 1, 2, 3].map((rank) => ranks.run(rank, acts)));
    for (const outcome of outcomes) expect(outcome).toEqual(["open", "open", 10, 10, 10, 10]);
  });

  it("ends in time and says with whom, where one opens the first set only; that one can be used", async () => {
    using ranks = new LinkSetRanks(3);
    const acts: Act[] = [{ open: "engine" }, { open: "communication", deadlineMs: 2500 }, { sum: "engine" }];
    const outcomes = await Promise.all([
      ...[0, 1].map((rank) => ranks.run(rank, acts)),
      ranks.run(2, [{ open: "engine" }, { sum: "engine" }]),
    ]);
    for (const rank of [0, 1]) {
      const lost = { code: "LINK_LOST", rank, peer: 2, reason: "there was no answer in time" };
      expect(outcomes[rank]).toEqual(["open", lost, 6]);
    }
    expect(outcomes[2]).toEqual(["open", 6]);
  });

  it("ends in time where one begins with the second set, which the other takes for a stranger", async () => {
    using ranks = new LinkSetRanks(2);
    const [first, second] = await Promise.all([
      ranks.run(0, [{ open: "engine", deadlineMs: 1000 }]),
      ranks.run(1, [{ open: "communication", deadlineMs: 1000 }]),
    ]);
    expect(first).toMatchObject([{ code: "LINK_LOST", rank: 0, peer: 1 }]);
    expect(second).toMatchObject([{ code: "LINK_LOST", rank: 1, peer: 0 }]);
    const again = await Promise.all([0, 1].map((rank) => ranks.run(rank, [...bothSets, ...bothSums])));
    expect(again).toEqual([
      ["open", "open", 3, 3],
      ["open", "open", 3, 3],
    ]);
  });
});

describe("whoever has overheard one set", () => {
  const soon = () => performance.now() + 10_000;
  const challenge = new Uint8Array(32).fill(7);

  /** Greets a rank as rank 1 would for a set. */
  function greet(ranks: LinkSetRanks, set: LinkSet): Socket {
    const [{ sendKey, receiveKey }] = peersOf(set, ranks.setups[1]!) as [ReturnType<typeof peersOf>[number]];
    const keys = { rank: 1, peer: 0, sendKey, receiveKey };
    const socket = connectTo("127.0.0.1", ranks.listeners[0]!.port, soon());
    sendAll(socket, writeGreeting(frameType.hello, keys, "aes-256-gcm", challenge, []), soon());
    return socket;
  }

  it.each([
    ["engine", "communication"],
    ["communication", "engine"],
  ] as const)(
    "and greets with the hello of the %s set gets no answer where the %s set is opened",
    async (known, opened) => {
      using ranks = new LinkSetRanks(2);
      const opening = ranks.run(0, [{ open: opened }]);
      const [stranger, peer] = [greet(ranks, known), greet(ranks, opened)];
      const answer = new Uint8Array(greetingBytes);
      receiveExact(peer, answer, soon());
      expect(() => receiveExact(stranger, answer, soon())).toThrow(/closed|reset/);
      closeSocket(peer);
      closeSocket(stranger);
      // The rank itself still gets in.
      const [first, second] = await Promise.all([opening, ranks.run(1, [{ open: opened }])]);
      expect([first, second]).toEqual([["open"], ["open"]]);
    },
  );

  it("and replays its frames into the other one is noticed", async () => {
    using ranks = new LinkSetRanks(2);
    const proxy = await ReplayingProxy.listen(ranks.listeners[0]!.port);
    const [peer] = ranks.setups[1]!.peers;
    const setup = { ...ranks.setups[1]!, peers: [{ ...peer!, port: proxy.port }] };
    const acts = [...bothSets, ...bothSums];
    const [first] = await Promise.all([ranks.run(0, acts), ranks.run(1, acts, setup)]);
    await proxy.close();
    const lost = { code: "LINK_LOST", rank: 0, peer: 1, reason: "frame 0 was changed on its way" };
    expect(first).toEqual(["open", "open", 3, lost]);
  });
});

/** Stands between a caller and a listener. What the first connection sends behind its greetings, all others send, too. */
class ReplayingProxy {
  readonly #server: Server;
  readonly #target: number;
  readonly #recorded: Buffer[] = [];
  readonly #sockets: NetSocket[] = [];

  static async listen(target: number): Promise<ReplayingProxy> {
    const proxy = new ReplayingProxy(target);
    await new Promise<void>((resolve) => proxy.#server.listen(0, "127.0.0.1", resolve));
    return proxy;
  }

  private constructor(target: number) {
    this.#target = target;
    let count = 0;
    this.#server = createServer((caller) => this.#forward(caller, count++ === 0));
  }

  get port(): number {
    return (this.#server.address() as { port: number }).port;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #forward(caller: NetSocket, records: boolean): void {
    const listener = connect(this.#target, "127.0.0.1");
    for (const socket of [caller, listener]) this.#sockets.push(socket.on("error", () => socket.destroy()));
    listener.pipe(caller);
    let passed = 0;
    caller.on("data", (chunk: Buffer) => {
      const greeting = chunk.subarray(0, Math.max(0, 2 * greetingBytes - passed));
      const frames = chunk.subarray(greeting.length);
      if (records) this.#recorded.push(frames);
      listener.write(greeting);
      listener.write(records ? frames : this.#replayed(passed + greeting.length - 2 * greetingBytes, frames.length));
      passed += chunk.length;
    });
    caller.on("end", () => listener.end());
  }

  #replayed(from: number, length: number): Buffer {
    return Buffer.concat(this.#recorded).subarray(from, from + length);
  }
}
