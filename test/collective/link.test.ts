import { randomBytes } from "node:crypto";
import { readdirSync } from "node:fs";
import { afterEach, expect, test } from "vitest";
import { cipherNames, fasterCipher, openCipher } from "#stellium/collective/cipher";
import { frameType, headerBytes, writeHeader } from "#stellium/collective/frame";
import { greetingBytes, writeGreeting } from "#stellium/collective/handshake";
import { Link } from "#stellium/collective/link";
import { openLinks } from "#stellium/collective/openLinks";
import { nodeAead, openAead } from "#stellium/native/aead";
import {
  acceptFrom,
  closeSocket,
  connectTo,
  listenOn,
  receiveExact,
  type Socket,
  sendAll,
  tryReceive,
} from "#stellium/native/sockets";
import { skipUnless } from "../skip.ts";
import { keyOf, peersOf } from "./keys.mjs";
import { defaults, runRank } from "./ranks.ts";

const soon = () => performance.now() + 2000;
const open: Socket[] = [];
afterEach(() => {
  for (const socket of open.splice(0)) closeSocket(socket);
});

function socketPair(host = "127.0.0.1"): [Socket, Socket] {
  const listener = listenOn(host);
  const near = connectTo(host, listener.port, soon());
  open.push(listener.socket, near, acceptFrom(listener.socket, soon()));
  return [near, open.at(-1)!];
}

/** One end of a link, and the other as whoever holds the key would write it. */
function linkEnd(socket: Socket, name: (typeof cipherNames)[number], maxPayload = 256) {
  const cipher = openCipher(name, keyOf(1, 0));
  const link = new Link({
    rank: 0,
    peer: 1,
    socket,
    sending: openCipher("none", keyOf(0, 1)),
    receiving: cipher,
    maxPayload,
  });
  const frame = (sequence: number, payload: Uint8Array) => {
    const bytes = new Uint8Array(headerBytes + payload.length + cipher.overhead);
    writeHeader(new DataView(bytes.buffer), frameType.data, sequence, payload.length);
    const [sealed, tag] = [bytes.subarray(headerBytes, headerBytes + payload.length), headerBytes + payload.length];
    cipher.seal(sequence, bytes.subarray(0, headerBytes), payload, sealed, bytes.subarray(tag));
    return bytes;
  };
  return { link, frame };
}

/** Whatever has come of a frame: its payload, undefined, or the reason that it was refused for. */
function outcome(link: Link, expected: number): Uint8Array | string | undefined {
  try {
    const place = link.incoming(expected);
    return link.receive(place) ? place.payload.slice() : undefined;
  } catch (error) {
    expect(error).toMatchObject({ code: "LINK_LOST", values: { rank: 0, peer: 1 } });
    return (error as { values: { reason: string } }).values.reason;
  }
}

test.each(["127.0.0.1", "::1"])("sockets carry bytes over %s and say when they end", (host) => {
  const [near, far] = socketPair(host);
  const sent = randomBytes(5000);
  const received = new Uint8Array(5000);
  sendAll(near, sent, soon());
  receiveExact(far, received, soon());
  expect(Buffer.compare(sent, received)).toBe(0);
  expect(() => receiveExact(far, received, performance.now() + 30)).toThrow(
    expect.objectContaining({ code: "ETIMEDOUT" }),
  );
  closeSocket(open.splice(open.indexOf(near), 1)[0]!);
  expect(() => receiveExact(far, received, soon())).toThrow(expect.objectContaining({ code: "ENDED" }));
});

test("a port without a listener, and a name, are refused", () => {
  const { socket, port } = listenOn("127.0.0.1");
  closeSocket(socket);
  expect(() => connectTo("127.0.0.1", port, soon())).toThrow(/connection refused \(ECONNREFUSED\)/);
  expect(() => connectTo("localhost", port, soon())).toThrow("localhost is no IP address");
});

test.each(["aes-256-gcm", "chacha20-poly1305"] as const)("%s is what node:crypto makes of it", (name) => {
  const [key, nonce, header, plain] = [32, 12, 16, 1000].map((length) => randomBytes(length));
  const [fast, fastTag] = [new Uint8Array(1000), new Uint8Array(16)];
  const [slow, slowTag] = [new Uint8Array(1000), new Uint8Array(16)];
  openAead(name, key!).seal(nonce!, header!, plain!, fast, fastTag);
  nodeAead(name, key!).seal(nonce!, header!, plain!, slow, slowTag);
  expect([fast, fastTag]).toEqual([slow, slowTag]);
  expect(nodeAead(name, key!).open(nonce!, header!, fast, fastTag)).toBe(true);
  expect(Buffer.compare(fast, plain!)).toBe(0);
  slow[999]! ^= 1;
  expect(nodeAead(name, key!).open(nonce!, header!, slow, slowTag)).toBe(false);
  expect(cipherNames).toContain(fasterCipher());
});

test.each(cipherNames)("a link with %s takes the next frame and no other", (name) => {
  const [near, far] = socketPair();
  const { link, frame } = linkEnd(near, name);
  for (const sequence of [0, 1]) {
    sendAll(far, frame(sequence, new Uint8Array(100).fill(sequence + 7)), soon());
    expect(outcome(link, 100)).toEqual(new Uint8Array(100).fill(sequence + 7));
  }
  sendAll(far, frame(1, new Uint8Array(100)), soon());
  expect(outcome(link, 100)).toBe("frame 1 came where frame 2 was due");
});

test("a frame that was cut short waits; one that was cut off ends", () => {
  const [near, far] = socketPair();
  const { link, frame } = linkEnd(near, "aes-256-gcm");
  const bytes = frame(0, new Uint8Array(100));
  for (const [from, to] of [
    [0, 7],
    [7, 16],
    [16, 90],
  ] as const) {
    sendAll(far, bytes.subarray(from, to), soon());
    expect(outcome(link, 100)).toBeUndefined();
  }
  closeSocket(open.splice(open.indexOf(far), 1)[0]!);
  expect(outcome(link, 100)).toBe("the connection was closed");
});

test("20,000 random and mutated frames end in clean errors, in bounded memory", () => {
  const [near, far] = socketPair();
  const { frame } = linkEnd(near, "aes-256-gcm");
  const rest = new Uint8Array(1000);
  const before = process.memoryUsage().rss;
  const reasons = new Set<string>();
  for (let i = 0; i < 20_000; i++) {
    const { link } = linkEnd(near, "aes-256-gcm");
    sendAll(far, mutated(frame(0, randomBytes(100)), i), soon());
    const result = outcome(link, 100);
    if (result instanceof Uint8Array) throw new Error(`frame ${i} was accepted`);
    reasons.add(String(result).replace(/\d+/g, "#"));
    while (tryReceive(near, rest) > 0);
  }
  expect([...reasons].sort()).toMatchInlineSnapshot(`
    [
      "a frame has # bytes where # were due",
      "a frame has another magic or version",
      "a frame has the type #",
      "a frame has unknown flags",
      "frame # came where frame # was due",
      "frame # was changed on its way",
      "undefined",
    ]
  `);
  expect(process.memoryUsage().rss - before).toBeLessThan(200 << 20);
});

function mutated(frame: Uint8Array, i: number): Uint8Array {
  const at = Math.floor(Math.random() * (i % 2 ? headerBytes : frame.length));
  const kinds = [
    () => frame.map((byte, j) => (j === at ? byte ^ (1 << (i % 8)) : byte)),
    () => frame.subarray(0, Math.max(1, at)),
    () => randomBytes(1 + Math.floor(Math.random() * 300)),
    () => Buffer.concat([frame.subarray(0, at), randomBytes(frame.length - at)]),
    () => Buffer.concat([frame.subarray(0, 12), randomBytes(4), frame.subarray(16)]),
  ];
  const result = kinds[i % kinds.length]!();
  return Buffer.compare(result, frame) === 0 ? frame.map((byte) => byte ^ 1) : result;
}

test("strangers are dropped without keeping a rank from its peer", async () => {
  const listener = listenOn("127.0.0.1");
  const rank0 = runRank<boolean>({
    ...defaults,
    job: "greet",
    rank: 0,
    size: 2,
    ports: [listener.port, 0],
    listener: listener.socket,
  });
  const keys = { rank: 1, peer: 0, sendKey: keyOf(1, 0), receiveKey: keyOf(0, 1) };
  const hello = writeGreeting(frameType.hello, keys, "aes-256-gcm", randomBytes(32), []);
  const connect = (bytes: Uint8Array) => {
    const socket = connectTo("127.0.0.1", listener.port, soon());
    open.push(socket);
    if (bytes.length > 0) sendAll(socket, bytes, soon());
    return socket;
  };
  // Silent, cut short, of another rank, random and mutated ones.
  for (let i = 0; i < 150; i++) connect(hello.subarray(0, i % 40));
  for (let i = 0; i < 300; i++) connect(mutated(hello, i));
  // A hello that was overheard gets a challenge, and fails at it.
  const replayed = connect(hello);
  receiveExact(replayed, new Uint8Array(greetingBytes), soon());
  sendAll(replayed, hello, soon());
  expect(() => receiveExact(replayed, new Uint8Array(1), soon())).toThrow(/closed|reset/);
  const [link] = openLinks({ ...setupOf(1, [listener.port, 0]) }).values();
  expect(await rank0).toBe(true);
  link!.close();
  closeSocket(listener.socket);
});

const setupOf = (rank: number, ports: number[]) => ({
  ...{ rank, peers: peersOf(rank, ports), listener: -1, cipher: "aes-256-gcm" as const },
  ...{ maxPayload: 1000, deadlineMs: 5000 },
});

test("a peer that does not come is named", () => {
  const listener = listenOn("127.0.0.1");
  open.push(listener.socket);
  const setup = { ...setupOf(0, [0, 0]), listener: listener.socket, deadlineMs: 100 };
  const error = { code: "LINK_LOST", values: { rank: 0, peer: 1, reason: "there was no answer in time" } };
  expect(() => openLinks(setup)).toThrow(expect.objectContaining(error));
});

test.each(["sendKey", "receiveKey"])("a peer with another %s gets no link, on neither side", async (key) => {
  const listener = listenOn("127.0.0.1");
  open.push(listener.socket);
  const ports = [listener.port, 0];
  const data = { ...defaults, deadlineMs: 700, job: "greet", rank: 0, size: 2, ports, listener: listener.socket };
  const rank0 = expect(runRank(data)).rejects.toThrow(
    "device 0 lost its link to device 1: there was no answer in time",
  );
  const setup = setupOf(1, ports);
  const peers = setup.peers.map((peer) => ({ ...peer, [key]: keyOf(7, 7) }));
  expect(() => openLinks({ ...setup, peers, deadlineMs: 700 })).toThrow(/^device 1 lost its link to device 0: /);
  await rank0;
});

test("what was opened is closed again", skipUnless("linux"), () => {
  const descriptors = () => readdirSync("/proc/self/fd").length;
  const before = descriptors();
  const listener = listenOn("127.0.0.1");
  for (let i = 0; i < 20; i++) {
    const strangers = [connectTo("127.0.0.1", listener.port, soon()), connectTo("127.0.0.1", listener.port, soon())];
    expect(() => openLinks({ ...setupOf(0, [0, 0]), listener: listener.socket, deadlineMs: 10 })).toThrow();
    expect(() => openLinks({ ...setupOf(1, [listener.port, 0]), deadlineMs: 10 })).toThrow();
    for (const socket of strangers) closeSocket(socket);
  }
  closeSocket(listener.socket);
  // Threads of earlier tests may still be ending; a leak would show as some 80 more.
  expect(descriptors()).toBeLessThan(before + 20);
});
