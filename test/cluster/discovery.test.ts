import { createSocket } from "node:dgram";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { encode } from "dns-packet";
import { afterEach, describe, expect, it } from "vitest";
import { listenForWorkers } from "#stellium/cluster/control/server";
import { AnnouncedAddresses } from "#stellium/cluster/discovery/announcedAddresses";
import { Announcement } from "#stellium/cluster/discovery/announcement";
import { locateCoordinator } from "#stellium/cluster/discovery/locate";
import { PacketGate, serviceType } from "#stellium/cluster/discovery/multicast";
import { DeviceRegister } from "#stellium/cluster/identity/deviceRegister";
import { Membership } from "#stellium/cluster/identity/membership";
import { JoinToken } from "#stellium/cluster/token";
import { skipIf } from "../skip.ts";
import { openLoopback, skipWithoutMulticast } from "./multicast.ts";

const host = "127.0.0.1";
const linux = skipIf(process.platform !== "linux", "only Linux has all of 127.0.0.0/8 on loopback");
const ours = JoinToken.parse("the token of this cluster");
const theirs = JoinToken.parse("the token of another one");
const membership = Membership.ofToken(ours);
const opened: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of opened.splice(0).reverse()) await close();
});

function socket() {
  const mdns = openLoopback();
  opened.push(() => mdns.destroy());
  return mdns;
}

async function coordinator(token: JoinToken, register = DeviceRegister.unkept(token)): Promise<number> {
  const listener = await listenForWorkers({ host, register, version: "0.0.0", onDrop: () => {} });
  const announcement = new Announcement({ host, addresses: listener.addresses });
  opened.push(
    () => listener.close(),
    () => announcement[Symbol.asyncDispose](),
  );
  return listener.port;
}

/** A program that announces itself as a coordinator, takes connections, and never says anything. */
async function impostor() {
  const sockets = new Set<Socket>();
  const server = createServer((connection) => sockets.add(connection.on("error", () => {}))).listen(0, host);
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const mdns = socket();
  const announce = (names: string[]) =>
    mdns.respond({
      answers: names.map((name) => ({ name: serviceType, type: "PTR", ttl: 120, data: `${name}.${serviceType}` })),
      additionals: names.map((name) => ({ name, type: "SRV", ttl: 120, data: { target: `${name}.local`, port } })),
    });
  const talking = setInterval(() => announce(["one", "two", "three"]), 5);
  opened.push(
    () => server.close(),
    () => clearInterval(talking),
    () => [...sockets].map((connection) => connection.destroy()),
  );
  return sockets;
}

/** Many senders that announce a program which never says anything, and places where there is none, as fast as they can. */
async function flood(senders: number) {
  const connections = new Set<Socket>();
  const server = createServer((connection) => connections.add(connection.on("error", () => {}))).listen(0, "0.0.0.0");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  opened.push(
    () => server.close(),
    () => [...connections].map((connection) => connection.destroy()),
  );
  for (let i = 0; i < senders; i++) {
    const sender = createSocket({ type: "udp4", reuseAddr: true }).bind(0, `127.0.1.${i + 1}`);
    await once(sender, "listening");
    sender.setMulticastInterface(host);
    let said = 0;
    const talking = setInterval(() => {
      for (let k = 0; k < 5; k++)
        sender.send(announcementOf(k === 0 ? port : 1 + (++said % 60_000)), 5353, "224.0.0.251");
    }, 20);
    opened.push(
      () => sender.close(),
      () => clearInterval(talking),
    );
  }
  return connections;
}

function announcementOf(port: number): Buffer {
  const name = `one.${serviceType}`;
  return encode({
    type: "response",
    answers: [{ name: serviceType, type: "PTR", ttl: 120, data: name }],
    additionals: [{ name, type: "SRV", ttl: 120, data: { target: "one.local", port } }],
  });
}

describe("a coordinator is found by multicast DNS", await skipWithoutMulticast(), () => {
  const locate = () => locateCoordinator({ membership, via: host, signal: AbortSignal.timeout(15_000) });

  it("among others, by its token alone", async () => {
    await coordinator(theirs);
    const port = await coordinator(ours);
    expect(await locate()).toEqual({ host, port });
  });

  it("when it starts after the search", async () => {
    const found = locate();
    await coordinator(theirs);
    const port = await coordinator(ours);
    expect(await found).toEqual({ host, port });
  });

  it("in the presence of programs that announce themselves without end and never answer", async () => {
    const sockets = await impostor();
    const port = await coordinator(ours);
    expect(await locate()).toEqual({ host, port });
    expect(sockets.size).toBeLessThanOrEqual(2);
  });

  it("by a device that it has admitted, among others that know the token and announce themselves", async () => {
    const cacheDir = mkdtempSync(join(tmpdir(), "stellium-discovery-"));
    opened.push(() => rmSync(cacheDir, { recursive: true }));
    const register = await DeviceRegister.open({ cacheDir, token: ours });
    const admitted = Membership.open(ours, cacheDir);
    await admitted.keep((await register.issue())!);
    const [first, second] = [await coordinator(ours), await coordinator(ours)];
    const found = locateCoordinator({ membership: admitted, via: host, signal: AbortSignal.timeout(15_000) });
    // Both have been found by a device that has the token alone.
    expect([first, second]).toContain((await locate()).port);
    const port = await coordinator(ours, register);
    expect(await found).toEqual({ host, port });
  });

  it("while many senders announce without end, in little memory", linux, async () => {
    const connections = await flood(20);
    const before = process.memoryUsage.rss();
    const found = locateCoordinator({ membership, via: host, signal: AbortSignal.timeout(90_000) });
    // More than the eight that were once tried at a time.
    while (connections.size < 12) await new Promise((resolve) => setTimeout(resolve, 20));
    const port = await coordinator(ours);
    expect(await found).toEqual({ host, port });
    expect(process.memoryUsage.rss() - before).toBeLessThan(150e6);
  });

  it("and answers once a second, however often it is asked", async () => {
    const port = await coordinator(ours);
    const mdns = socket();
    let told = 0;
    mdns.on("response", ({ additionals }) => {
      if (additionals?.some((record) => record.type === "SRV" && record.data.port === port)) told++;
    });
    let asked = 0;
    while (told < 3) {
      for (let i = 0; i < 10; i++) mdns.query(serviceType, "PTR");
      asked += 10;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(asked).toBeGreaterThan(50);
  });

  it("until the search is stopped", async () => {
    await coordinator(theirs);
    const stop = new AbortController();
    const found = locateCoordinator({ membership, via: host, signal: stop.signal });
    setTimeout(() => stop.abort(), 300);
    await expect(found).rejects.toMatchObject({ code: "ABORTED" });
  });
});

describe("announced addresses", () => {
  const address = (port: number) => ({ host, port });

  it("are tried in turns of their senders, once, and again after a while", () => {
    let now = 0;
    const candidates = new AnnouncedAddresses(() => now);
    candidates.add("loud", [1, 2, 3, 4, 5, 6].map(address));
    candidates.add("quiet", [address(7)]);
    const order = () => Array.from({ length: 6 }, () => candidates.next()?.port);
    expect(order()).toEqual([1, 7, 2, 3, 4, undefined]);
    candidates.add("loud", [1, 2].map(address));
    expect(candidates.next()).toBeUndefined();
    now = 5000;
    candidates.add("loud", [1, 2].map(address));
    expect(candidates.next()).toEqual(address(1));
  });

  it("take little memory, however many there are", () => {
    const candidates = new AnnouncedAddresses(
      () => 0,
      () => 0.5,
    );
    for (let sender = 0; sender < 10_000; sender++) candidates.add(`${sender}`, [address(1 + sender)]);
    let waiting = 0;
    while (candidates.next() !== undefined) waiting++;
    expect(waiting).toBe(256);
  });

  it("come in packets of which some are looked at, at any time", () => {
    let now = 0;
    const gate = new PacketGate(() => now);
    const admitted = () => Array.from({ length: 1000 }, () => gate.admits(200)).filter(Boolean).length;
    expect(admitted()).toBe(100);
    now = 10;
    expect(admitted()).toBe(10);
    expect(gate.admits(200)).toBe(false);
    now = 1000;
    expect(gate.admits(1501)).toBe(false);
    expect(gate.admits(1500)).toBe(true);
  });
});
