import { execFileSync, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectTls, createServer as createTlsServer } from "node:tls";
import { fileURLToPath } from "node:url";
import { describe, expect, it, vi } from "vitest";
import { joinCoordinator } from "#stellium/cluster/control/client";
import { connectSecurely } from "#stellium/cluster/control/secure";
import { skipIf } from "../skip.ts";
import { admit, closing, eventually, hello, listen, membership, startDevice, token, version } from "./pair.ts";

const host = "127.0.0.1";
const joinAt = (port: number) => joinCoordinator({ host, port, membership, version, hello: () => hello });
const codeOf = (code: string) => expect.objectContaining({ code });

/** Sends bytes to a port, and resolves when the other side has dropped the connection, with what it answered. */
async function sendRaw(port: number, bytes: Uint8Array | string): Promise<Buffer> {
  const socket = connect(port, host).on("error", () => {});
  const received: Buffer[] = [];
  socket.on("data", (chunk) => received.push(chunk));
  if (bytes.length > 0) socket.end(bytes);
  await closing(socket);
  return Buffer.concat(received);
}

async function port(server: Server): Promise<number> {
  server.listen(0, host);
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

describe("a listener drops", () => {
  it("TLS without a key, with another identity, with another key, and of another version", async () => {
    const { listener, drops } = await listen();
    const psk = token.key("control");
    const attempts = [
      {},
      { pskCallback: () => ({ psk, identity: "other" }) },
      { pskCallback: () => ({ psk: randomBytes(32), identity: "stellium" }) },
      { pskCallback: () => ({ psk, identity: "stellium" }), maxVersion: "TLSv1.2", ciphers: "PSK" } as const,
    ];
    for (const attempt of attempts) {
      const socket = connectTls({ host, port: listener.port, checkServerIdentity: () => undefined, ...attempt });
      const secured = vi.fn();
      socket.on("secureConnect", secured).on("error", () => {});
      await closing(socket);
      expect(secured).not.toHaveBeenCalled();
    }
    await eventually(() => drops.length === attempts.length);
    for (const drop of drops) expect(drop).toMatch(/^no handshake \(ERR_SSL_/);
    await listener.close();
  });

  it("what is no TLS, and answers with an alert at most", async () => {
    const { listener, drops } = await listen();
    for (const bytes of ["GET / HTTP/1.1\r\n\r\n", "\0", JSON.stringify(hello).repeat(100), randomBytes(70_000)]) {
      expect((await sendRaw(listener.port, bytes)).length).toBeLessThan(64);
    }
    await eventually(() => drops.length === 4);
    await listener.close();
  });

  it("who says nothing, before or after the handshake, when the time is up", async () => {
    const limits = { deadlineMs: 200, mostPending: 4 };
    const { listener, drops } = await listen({ limits });
    const silent = sendRaw(listener.port, "");
    const authenticated = connectSecurely({ host, port: listener.port }, token.credential).resume();
    const started = performance.now();
    await Promise.all([silent, closing(authenticated)]);
    expect(performance.now() - started).toBeLessThan(3000);
    await eventually(() => listener.pending === 0 && drops.length === 2);
    await listener.close();
  });

  it("the oldest of many that hold connections open, and lets a device in meanwhile", async () => {
    const { listener, workers } = await listen({ limits: { deadlineMs: 60_000, mostPending: 8 } });
    const held = Array.from({ length: 100 }, () => connect(listener.port, host).on("error", () => {}));
    await Promise.all(held.map((socket) => once(socket, "connect")));
    await eventually(() => held.filter(({ closed }) => closed).length >= 92);
    expect(listener.pending).toBe(8);
    const joining = joinAt(listener.port);
    await Promise.all([admit(workers), joining.next()]);
    await joining.return(undefined as never);
    await listener.close();
    await eventually(() => held.every(({ closed }) => closed));
  });

  it("2,000 connections of garbage, in few lines of log and little memory", async () => {
    const device = await startDevice("coordinator");
    device.child.send("report");
    const before = (await device.said.next("report")).rss!;
    for (let sent = 0; sent < 2000; sent += 50) {
      await Promise.all(Array.from({ length: 50 }, (_, i) => sendGarbage(device.port, sent + i)));
    }
    device.child.send("report");
    const { rss, counts } = await device.said.next("report");
    expect(counts).toEqual({ "no handshake": 2000 });
    expect(rss! - before).toBeLessThan(64e6);
    const joining = joinAt(device.port);
    expect((await joining.next()).value.welcome.rank).toBe(1);
    await joining.return(undefined as never);
    device.child.send("close");
    expect(await device.exited).toBe(0);
  });
});

/** Noise, or what looks like the start of TLS. */
async function sendGarbage(at: number, seed: number): Promise<void> {
  const noise = randomBytes(1 + ((seed * 37) % 4000));
  const record = Buffer.from([22, 3, 1, noise.length >> 8, noise.length & 255, 1, 0, 0, noise.length & 255]);
  const socket = connect(at, host).resume();
  socket.end(seed % 2 === 0 ? noise : Buffer.concat([record, noise]));
  await closing(socket);
}

it("logs one line for many that it drops", async () => {
  const write = vi.spyOn(process.stderr, "write").mockReturnValue(true);
  const { listener, drops } = await listen();
  for (let i = 0; i < 20; i++) await sendRaw(listener.port, "GET / HTTP/1.1\r\n\r\n");
  await eventually(() => drops.length === 20);
  const lines = write.mock.calls.map(([line]) => String(line));
  write.mockRestore();
  expect(lines).toEqual([expect.stringMatching(/^warn: dropped a connection that did not join, the last from 127/)]);
  await listener.close();
});

describe("a device that joins", () => {
  it("gives up where something else answers", async () => {
    const server = createServer((socket) => socket.on("error", () => {}).end("HTTP/1.1 400 Bad Request\r\n\r\n"));
    const error = await joinAt(await port(server))
      .next()
      .catch((e: unknown) => e);
    expect(error).toEqual(codeOf("PROTOCOL_VIOLATION"));
    expect((error as Error).message).toMatch(/^the program at 127.*it is no Stellium coordinator$/);
    server.close();
  });

  const openssl = spawnSync("openssl", ["version"]).status === 0;

  it("does not take a trusted certificate for the token", skipIf(!openssl, "there is no openssl command"), async () => {
    const folder = mkdtempSync(join(tmpdir(), "stellium-rogue-"));
    const [key, cert] = [join(folder, "key.pem"), join(folder, "cert.pem")];
    const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
    execFileSync(
      "openssl",
      ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, ...subject],
      {
        stdio: "ignore",
      },
    );
    const rogue = createTlsServer({ key: readFileSync(key), cert: readFileSync(cert) }, (socket) => socket.end());
    const device = fileURLToPath(new URL("device.mjs", import.meta.url));
    const joined = vi.fn();
    rogue.on("secureConnection", joined);
    const { fork } = await import("node:child_process");
    const env = { ...process.env, NODE_EXTRA_CA_CERTS: cert };
    const child = fork(device, ["worker", String(await port(rogue)), token.text], { env });
    const [report] = await once(child, "message");
    expect(report).toMatchObject({ type: "failed", code: "PROTOCOL_VIOLATION" });
    await once(child, "exit");
    rogue.close();
    rmSync(folder, { recursive: true });
  });
});
