import { getEventListeners } from "node:events";
import { describe, expect, it } from "vitest";
import { type JoinState, joinCoordinator } from "#stellium/cluster/control/client";
import { protocolVersion } from "#stellium/cluster/control/messages";
import { windowBytes } from "#stellium/cluster/control/sendWindow";
import { Membership } from "#stellium/cluster/identity/membership";
import { JoinToken } from "#stellium/cluster/token";
import { admit, connectedPair, eventually, hello, listen, membership, startDevice, version } from "./pair.ts";

const join = (port: number, options: object = {}) =>
  joinCoordinator({ host: "127.0.0.1", port, membership, version, hello: () => hello, ...options });
const codeOf = (code: string) => expect.objectContaining({ code });

describe("joining", () => {
  it("introduces both sides and carries messages", async () => {
    const { worker, coordinator, states, close } = await connectedPair();
    expect(worker).toMatchObject({ hello, remoteAddress: "127.0.0.1" });
    expect(coordinator).toMatchObject({ welcome: { rank: 1, size: 2 }, localAddress: "127.0.0.1" });
    expect(states.map(({ state }) => state)).toEqual(["connecting", "connected", "joined"]);
    await worker.channel.send({ type: "slice-block", index: 1, stream: 2, bytes: 3 });
    await worker.channel.sendData(2, 0, Uint8Array.of(1, 2, 3));
    expect((await coordinator.channel.next()).value).toMatchObject({ type: "slice-block", index: 1 });
    expect((await coordinator.channel.next()).value).toMatchObject({ type: "data", stream: 2, offset: 0 });
    await close();
  });

  it("works over IPv6", async () => {
    const { listener, workers } = await listen({ host: "::1" });
    const joining = join(listener.port, { host: "::1" });
    const [worker] = await Promise.all([admit(workers), joining.next()]);
    expect(worker.remoteAddress).toBe("::1");
    expect(listener.address).toBe(`[::1]:${listener.port}`);
    await Promise.all([joining.return(undefined as never), listener.close()]);
  });

  it("refuses another version, with both versions, at both ends", async () => {
    const { listener, drops } = await listen();
    const error = await join(listener.port, { version: "9.9.9", protocol: 7 })
      .next()
      .catch((e: unknown) => e);
    expect(error).toEqual(codeOf("VERSION_MISMATCH"));
    expect((error as Error).message).toMatch(
      new RegExp(`version 7 \\(Stellium 9\\.9\\.9\\).*version ${protocolVersion} \\(Stellium 0\\.1\\.0\\)`),
    );
    await eventually(() => drops.length > 0);
    expect(drops[0]).toContain(`version ${protocolVersion} (Stellium 0.1.0) `);
    expect(drops[0]).toContain(", and 127.0.0.1 speaks version 7 (Stellium 9.9.9)");
    await listener.close();
  });

  it("waits for a coordinator, and joins again when it restarts", async () => {
    const { listener: first } = await listen();
    const { port } = first;
    await first.close();
    const states: JoinState[] = [];
    const joining = join(port, { onState: (state: JoinState) => states.push(state) });
    const joined = joining.next();
    await eventually(() => states.filter(({ state }) => state === "waiting").length >= 2);
    expect(states.find(({ state }) => state === "waiting")).toMatchObject({ error: { code: "COORDINATOR_LOST" } });
    for (let restart = 0; restart < 3; restart++) {
      const { listener, workers } = await listen({ port });
      const next = restart === 0 ? joined : joining.next();
      const worker = await admit(workers, restart + 1);
      const { channel, welcome } = (await next).value;
      expect(welcome.rank).toBe(restart + 1);
      await Promise.all([worker.channel.close("restarting"), listener.close()]);
      expect(await channel.ended).toEqual({ by: "peer", reason: "restarting" });
    }
    const delays = states.flatMap((state) => (state.state === "waiting" ? [state.delayMs] : []));
    expect(Math.min(...delays)).toBeGreaterThanOrEqual(200);
    await joining.return(undefined as never);
  });

  it("says why it cannot reach a name with several addresses", async () => {
    const states: JoinState[] = [];
    const stop = new AbortController();
    const onState = (state: JoinState) => states.push(state);
    const joining = expect(join(1, { host: "localhost", signal: stop.signal, onState }).next()).rejects.toThrow();
    await eventually(() => states.length > 1);
    stop.abort();
    await joining;
    const [, waiting] = states;
    expect(waiting?.state === "waiting" && waiting.error.message).toMatch(/ECONNREFUSED/);
  });

  it("stops when it is told to, at whatever it is", async () => {
    const gone = new AbortController();
    setTimeout(() => gone.abort(), 50);
    await expect(join(1, { signal: gone.signal }).next()).rejects.toThrow(codeOf("ABORTED"));
    await expect(join(1, { signal: AbortSignal.abort() }).next()).rejects.toThrow(codeOf("ABORTED"));
    const { listener, workers } = await listen();
    const unwelcome = new AbortController();
    const joining = join(listener.port, { signal: unwelcome.signal }).next();
    const { value: worker } = await workers.next();
    unwelcome.abort();
    await expect(joining).rejects.toThrow(codeOf("ABORTED"));
    expect(await worker?.channel.ended).toEqual({ by: "peer", reason: "stopped" });
    await listener.close();
  });

  it("says so where it cannot listen, and when the listener is closed or stopped", async () => {
    const stop = new AbortController();
    const { listener, workers } = await listen({ signal: stop.signal });
    await expect(listen({ port: listener.port })).rejects.toThrow(codeOf("BAD_USAGE"));
    const next = workers.next();
    stop.abort();
    expect(await next).toEqual({ done: true, value: undefined });
    await expect(listen({ signal: AbortSignal.abort() })).rejects.toThrow(codeOf("ABORTED"));
  });
});

describe("an open channel", () => {
  it("ends for both sides with the reason given", async () => {
    const { worker, coordinator, close } = await connectedPair();
    const reading = worker.channel.next();
    await coordinator.channel.close("battery\nlow");
    expect(await reading).toEqual({ done: true, value: undefined });
    expect(await worker.channel.ended).toEqual({ by: "peer", reason: "battery low" });
    await expect(worker.channel.send({ type: "stats-request" })).rejects.toThrow(/pi was lost: it left: battery low/);
    await expect(coordinator.channel.send({ type: "slice-complete" })).rejects.toThrow(codeOf("ABORTED"));
    await close();
  });

  it("sends nothing that is not valid", async () => {
    const { worker, coordinator, close } = await connectedPair();
    await expect(coordinator.channel.send({ type: "stats", figures: { a: Number.NaN } })).rejects.toThrow(/figures\.a/);
    const huge = Array.from({ length: 300 }, () => "x".repeat(5000));
    const listen = { host: "::", port: 0 };
    const slice = { model: "0".repeat(64), share: "0".repeat(16) };
    const plan = { type: "plan", rank: 1, size: 2, slice, description: huge, shares: 1, engine: 1, listen } as const;
    await expect(worker.channel.send(plan)).rejects.toThrow(/has 15\d{5} bytes/);
    expect(worker.channel.isOpen && coordinator.channel.isOpen).toBe(true);
    await close();
  });

  it("measures the round trip, and lives on without other traffic", async () => {
    const { worker, coordinator, close } = await connectedPair({ heartbeat: { intervalMs: 100, lostAfterMs: 800 } });
    await new Promise((resolve) => setTimeout(resolve, 1600));
    expect(worker.channel.roundTripMs).toBeGreaterThan(0);
    expect(coordinator.channel.roundTripMs).toBeLessThan(800);
    expect(worker.channel.isOpen && coordinator.channel.isOpen).toBe(true);
    await close();
  });

  it("does not take its own stall for the loss of the other", async () => {
    const { worker, coordinator, close } = await connectedPair({ heartbeat: { intervalMs: 100, lostAfterMs: 800 } });
    for (let i = 0; i < 3; i++) {
      const until = performance.now() + 300;
      while (performance.now() < until);
      await new Promise((resolve) => setTimeout(resolve, 30));
    }
    expect(worker.channel.isOpen && coordinator.channel.isOpen).toBe(true);
    await close();
  });

  it("stops reading when messages pile up, and goes on later", async () => {
    const { worker, coordinator, close } = await connectedPair({ heartbeat: { intervalMs: 100, lostAfterMs: 800 } });
    const events = Array.from({ length: 1000 }, () => ({ name: "x".repeat(60), thread: "t", start: 1, duration: 1 }));
    let sent = 0;
    const sending = (async () => {
      for (; sent < 200; sent++) await coordinator.channel.send({ type: "trace", last: false, dropped: 0, events });
    })();
    await new Promise((resolve) => setTimeout(resolve, 1000));
    // A message has 0.1 MB: what is unread at one end, and what the kernel holds between the two.
    expect(sent).toBeLessThan(150);
    for (let read = 0; read < 200; read++) expect((await worker.channel.next()).value?.type).toBe("trace");
    await sending;
    expect(worker.channel.isOpen && coordinator.channel.isOpen).toBe(true);
    await close();
  });
});

describe("data", () => {
  const total = 200e6;
  const piece = new Uint8Array(2e6).map((_, i) => i * 7);

  it("of 200 MB passes a slow reader with bounded memory", async () => {
    const { worker, coordinator, close } = await connectedPair();
    const rssBefore = process.memoryUsage.rss();
    let sent = 0;
    let read = 0;
    let mostAhead = 0;
    let mostRss = 0;
    const sending = (async () => {
      for (; sent < total; sent += piece.length) await worker.channel.sendData(1, sent, piece);
    })();
    while (read < total) {
      const { value } = await coordinator.channel.next();
      if (value?.type !== "data") throw new Error("not data");
      expect(value.offset).toBe(read);
      if (value.bytes[1000] !== piece[(read + 1000) % piece.length]) throw new Error("other bytes");
      read += value.bytes.length;
      mostAhead = Math.max(mostAhead, sent - read);
      mostRss = Math.max(mostRss, process.memoryUsage.rss());
      if (read < 40e6) await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await sending;
    expect(mostAhead).toBeLessThanOrEqual(windowBytes);
    expect(mostRss - rssBefore).toBeLessThan(96e6);
    await close();
  });

  it("that nobody reads stops the sender, and neither heartbeats nor messages nor an abort", async () => {
    const { worker, coordinator, close } = await connectedPair({ heartbeat: { intervalMs: 100, lostAfterMs: 800 } });
    const stop = new AbortController();
    const sending = expect(worker.channel.sendData(1, 0, new Uint8Array(20e6), stop.signal)).rejects.toThrow(
      "unneeded",
    );
    const lost = expect(worker.channel.sendData(2, 0, new Uint8Array(20e6))).rejects.toThrow(codeOf("WORKER_LOST"));
    await new Promise((resolve) => setTimeout(resolve, 600));
    expect(worker.channel.isOpen && coordinator.channel.isOpen).toBe(true);
    stop.abort(new Error("unneeded"));
    await sending;
    await coordinator.channel.send({ type: "slice-complete" });
    expect((await worker.channel.next()).value).toEqual({ type: "slice-complete" });
    await coordinator.channel.close("enough");
    await lost;
    await close();
  });
});

describe("a device that stops", () => {
  it("is noticed by both sides within 5 s, and joins again when it goes on", async () => {
    const { listener, workers } = await listen();
    const workerDevice = await startDevice("worker", listener.port);
    const worker = await admit(workers);
    const coordinatorDevice = await startDevice("coordinator");
    const joining = join(coordinatorDevice.port);
    const coordinator = (await joining.next()).value;
    await workerDevice.said.next("joined");

    const stopped = performance.now();
    workerDevice.child.kill("SIGSTOP");
    coordinatorDevice.child.kill("SIGSTOP");
    const ends = await Promise.all([worker.channel.ended, coordinator.channel.ended]);
    expect(performance.now() - stopped).toBeLessThan(5000);
    expect(performance.now() - stopped).toBeGreaterThan(2900);
    expect(ends[0].error).toEqual(codeOf("WORKER_LOST"));
    expect(ends[0].error?.message).toBe("the device child was lost: nothing came from it for 4 s");
    expect(ends[1].error).toEqual(codeOf("COORDINATOR_LOST"));
    await expect(worker.channel.next()).rejects.toThrow(codeOf("WORKER_LOST"));

    workerDevice.child.kill("SIGCONT");
    coordinatorDevice.child.kill("SIGCONT");
    expect(await workerDevice.said.next("ended")).toMatchObject({ code: "COORDINATOR_LOST" });
    expect(await coordinatorDevice.said.next("ended")).toMatchObject({ code: "WORKER_LOST" });
    await Promise.all([admit(workers), joining.next()]);
    await joining.return(undefined as never);
    for (const { child } of [workerDevice, coordinatorDevice]) child.send("close");
    expect(await Promise.all([workerDevice.exited, coordinatorDevice.exited])).toEqual([0, 0]);
    await listener.close();
  });

  it("leaves at once when its process ends", async () => {
    const { listener, workers } = await listen();
    const device = await startDevice("worker", listener.port);
    const worker = await admit(workers);
    const killed = performance.now();
    device.child.kill("SIGKILL");
    expect((await worker.channel.ended).error?.message).toMatch(/^the device child was lost: /);
    expect(performance.now() - killed).toBeLessThan(3000);
    await listener.close();
  });
});

it("leaves no socket, timer or listener behind", async () => {
  const resources = () => process.getActiveResourcesInfo().filter((name) => /TCP|TLS|Timeout/.test(name)).length;
  const before = resources();
  const stop = new AbortController();
  const pairs = [];
  for (let i = 0; i < 20; i++) pairs.push(await connectedPair({ signal: stop.signal }));
  expect(resources()).toBeGreaterThan(before + 40);
  await Promise.all(pairs.map(({ close }) => close()));
  await eventually(() => resources() <= before);
  expect(getEventListeners(stop.signal, "abort")).toHaveLength(0);
});

it("tells a wrong token from no coordinator at once", async () => {
  const { listener, drops } = await listen();
  const started = performance.now();
  const wrong = join(listener.port, { membership: Membership.ofToken(JoinToken.generate()) }).next();
  await expect(wrong).rejects.toThrow(codeOf("TOKEN_REJECTED"));
  expect(performance.now() - started).toBeLessThan(3000);
  await eventually(() => drops.length > 0);
  expect(drops).toEqual(["no handshake (ERR_SSL_BINDER_DOES_NOT_VERIFY)"]);
  await listener.close();
});
