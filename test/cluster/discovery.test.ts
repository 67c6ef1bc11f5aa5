import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { listenForWorkers } from "#stellium/cluster/control/server";
import { Announcement } from "#stellium/cluster/discovery/announcement";
import { locateCoordinator } from "#stellium/cluster/discovery/locate";
import { serviceType } from "#stellium/cluster/discovery/multicast";
import { DeviceRegister } from "#stellium/cluster/identity/deviceRegister";
import { Membership } from "#stellium/cluster/identity/membership";
import { JoinToken } from "#stellium/cluster/token";
import { openLoopback, skipWithoutMulticast } from "./multicast.ts";

const host = "127.0.0.1";
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

  it("until the search is stopped", async () => {
    await coordinator(theirs);
    const stop = new AbortController();
    const found = locateCoordinator({ membership, via: host, signal: stop.signal });
    setTimeout(() => stop.abort(), 300);
    await expect(found).rejects.toMatchObject({ code: "ABORTED" });
  });
});
