import { EventEmitter, once } from "node:events";
import { connect } from "node:net";
import { setTimeout } from "node:timers/promises";
import type { TLSSocket } from "node:tls";
import fc from "fast-check";
import { expect, it } from "vitest";
import { Channel } from "#stellium/cluster/control/channel";
import { joinCoordinator } from "#stellium/cluster/control/client";
import { creditFrame, dataFrame, jsonFrame } from "#stellium/cluster/control/frames";
import { protocolVersion } from "#stellium/cluster/control/messages";
import { connectSecurely, createServer, secureAcceptor } from "#stellium/cluster/control/secure";
import { workerSide } from "#stellium/cluster/control/sides";
import { StelliumError } from "#stellium/errors";
import { closing, hello, listen, membership, startDevice, token, version } from "./pair.ts";
import { samples } from "./samples.ts";

const runs = Number(process.env["STELLIUM_FUZZ_RUNS"] ?? 20_000);
const allowedGrowth = 128e6;
/** Milliseconds until a frame without an answer is taken for an incomplete one. */
const patience = 20;
const host = "127.0.0.1";

const extremes: unknown[] = [
  null,
  true,
  -1,
  0.5,
  2 ** 53,
  1e308,
  "",
  "\u0000",
  "x".repeat(5000),
  [],
  {},
  { __proto__: null, constructor: 1 },
  Array.from({ length: 5000 }, () => 0),
];

const framed = (message: unknown) => Buffer.concat(jsonFrame(Buffer.from(JSON.stringify(message) ?? "null")));
const greeting = framed({ type: "version", protocol: protocolVersion, stellium: version });

/** Changes one place of a JSON value. */
function changed(value: unknown, path: number[], replacement: unknown): unknown {
  if (typeof value !== "object" || value === null || path.length === 0) return replacement;
  const entries = Object.entries(value);
  const [at, ...rest] = path;
  const i = at! % (entries.length + 2);
  if (i === entries.length) return Array.isArray(value) ? [...value, replacement] : { ...value, added: replacement };
  if (i > entries.length) return Array.isArray(value) ? value.slice(1) : Object.fromEntries(entries.slice(1));
  const next = entries.map(([key, item], k) => [key, k === i ? changed(item, rest, replacement) : item]);
  return Array.isArray(value) ? next.map(([, item]) => item) : Object.fromEntries(next);
}

function flipped(bytes: Buffer, at: number, value: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[at % copy.length] = value;
  return copy;
}

/** Valid and broken frames as one of the sides might get them. */
function hostileFrame(messages: readonly object[]): fc.Arbitrary<Buffer> {
  const message = fc.constantFrom(...messages);
  const byte = fc.nat(255);
  const position = fc.nat(4000);
  const path = fc.array(fc.nat(12), { minLength: 1, maxLength: 4 });
  const small = fc.uint8Array({ maxLength: 64 });
  return fc.oneof(
    { weight: 4, arbitrary: message.map(framed) },
    {
      weight: 6,
      arbitrary: fc
        .tuple(message, path, fc.oneof(fc.constantFrom(...extremes), fc.jsonValue({ maxDepth: 2 })))
        .map(([value, where, replacement]) => framed(changed(value, where, replacement))),
    },
    {
      weight: 4,
      arbitrary: fc.tuple(message, position, byte).map(([value, at, to]) => flipped(framed(value), at, to)),
    },
    { weight: 1, arbitrary: fc.tuple(message, position).map(([value, at]) => framed(value).subarray(0, at)) },
    {
      weight: 2,
      arbitrary: fc
        .tuple(fc.nat(2 ** 32 - 1), fc.maxSafeNat(), small)
        .map((frame) => Buffer.concat(dataFrame(...frame))),
    },
    { weight: 1, arbitrary: fc.nat(2 ** 32 - 1).map((bytes) => Buffer.concat(creditFrame(bytes))) },
    { weight: 1, arbitrary: small.map((bytes) => Buffer.from(bytes)) },
    { weight: 1, arbitrary: small.map((bytes) => Buffer.concat(jsonFrame(Buffer.from(bytes)))) },
  );
}

const ping = framed({ type: "ping", sequence: 0 });

/** Sends frames until the peer has had enough, each with a ping behind it: its answer says that the frame was taken. */
async function attack(frames: Buffer[], socket: TLSSocket): Promise<void> {
  const closed = closing(socket);
  const answers = new EventEmitter();
  socket.on("data", (chunk: Buffer) => chunk.includes('"pong"') && answers.emit("pong"));
  while (frames.length > 0) {
    socket.write(Buffer.concat([frames.pop()!, ping]));
    const answered = once(answers, "pong").then(() => true);
    if (!(await Promise.race([answered, closed, setTimeout(patience)]))) break;
  }
  socket.end();
  await closed;
}

it(
  `survives ${runs} hostile messages from a device that knows the token`,
  async () => {
    const device = await startDevice("coordinator");
    device.child.send("report");
    const before = (await device.said.next("report")).rss!;
    let connections = 0;
    const frames = fc.sample(hostileFrame([...samples.worker, ...samples.worker.slice(3)]), runs);
    const attacker = async () => {
      for (; frames.length > 0; connections++) {
        const socket = connectSecurely({ host, port: device.port }, token.credential);
        await once(socket, "secureConnect");
        // Some are hostile from their first word.
        if (connections % 20 > 0) socket.write(Buffer.concat([greeting, framed(hello)]));
        await attack(frames, socket);
      }
    };
    await Promise.all([attacker(), attacker(), attacker(), attacker()]);
    device.child.send("report");
    const { rss, counts } = await device.said.next("report");
    expect(rss! - before).toBeLessThan(allowedGrowth);
    const known = ["joined", "message", "data", "left", "PROTOCOL_VIOLATION", "WORKER_LOST"];
    expect(Object.keys(counts!).filter((key) => /^[A-Z_]+$/.test(key) && !known.includes(key))).toEqual([]);
    expect(counts!["PROTOCOL_VIOLATION"]).toBeGreaterThan(1000);
    expect(counts!["message"]).toBeGreaterThan(1000);
    const joining = joinCoordinator({ host, port: device.port, membership, version, hello: () => hello });
    expect((await joining.next()).value.welcome.rank).toBe(1);
    await joining.return(undefined as never);
    device.child.send("close");
    expect(await device.exited).toBe(0);
  },
  60_000 + 5 * runs,
);

it("survives 2,000 hostile messages from a coordinator", async () => {
  const accept = secureAcceptor(() => token.credential.key);
  const frames = fc.sample(hostileFrame(samples.coordinator), 2000);
  const server = createServer((raw) => {
    const { secure: socket } = accept(raw);
    socket
      .on("error", () => {})
      .once("secure", () => {
        socket.write(greeting);
        void attack(frames, socket);
      });
  });
  server.listen(0, host);
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  const outcomes: Record<string, number> = {};
  while (frames.length > 0) {
    const outcome = await endure(port);
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
  }
  server.close();
  expect(Object.keys(outcomes).sort()).toEqual(["COORDINATOR_LOST", "PROTOCOL_VIOLATION", "left"]);
});

/** Connects as a worker and reads until the end, whatever it is. */
async function endure(port: number): Promise<string> {
  const socket = connectSecurely({ host, port }, token.credential);
  await once(socket, "secureConnect");
  const lost = (reason: string) => new StelliumError("COORDINATOR_LOST", { address: "here", reason });
  try {
    const channel = await Channel.open(socket, { side: workerSide, version, peer: () => "it", lost });
    while (!(await channel.next()).done);
    await channel.close("done");
    return "left";
  } catch (error) {
    if (!(error instanceof StelliumError)) throw error;
    await new Promise((resolve) => (socket.closed ? resolve(0) : socket.once("close", resolve)));
    return error.code;
  }
}

it("lets a device fill neither memory nor time", async () => {
  const device = await startDevice("coordinator");
  const announced = Array.from({ length: 30 }, async () => {
    const socket = connectSecurely({ host, port: device.port }, token.credential).resume();
    await once(socket, "secureConnect");
    socket.write(Buffer.concat([greeting, framed(hello)]));
    // 4 MiB announced, a few bytes sent.
    socket.write(Buffer.from([12, 0, 64, 0, 1, 1, 2, 3]));
    return socket;
  });
  const sockets = await Promise.all(announced);
  device.child.send("report");
  expect((await device.said.next("report")).rss).toBeLessThan(256e6);
  for (const socket of sockets) socket.destroy();
  const plain = connect(device.port, host).resume();
  plain.write(greeting);
  await closing(plain);
  device.child.send("close");
  expect(await device.exited).toBe(0);
});

it("does not take more than there is credit for, in data or in credit", async () => {
  const { listener, workers } = await listen();
  const piece = Buffer.concat(dataFrame(1, 0, new Uint8Array(4 * 2 ** 20)));
  for (const flood of [Buffer.concat([piece, piece, piece]), Buffer.concat(creditFrame(1))]) {
    const socket = connectSecurely({ host, port: listener.port }, token.credential);
    await once(socket, "secureConnect");
    socket.write(Buffer.concat([greeting, framed(hello)]));
    socket.resume();
    const { value } = await workers.next();
    socket.write(flood);
    expect((await value?.channel.ended)?.error?.message).toMatch(/^pi does not keep .*credit/);
    await closing(socket);
  }
  await listener.close();
});
