import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import type { Socket } from "node:net";
import { type CoordinatorConnection, type JoinState, joinCoordinator } from "#stellium/cluster/control/client";
import type { HeartbeatTimes } from "#stellium/cluster/control/heartbeat";
import type { WorkerHello } from "#stellium/cluster/control/messages";
import { type ListenOptions, listenForWorkers, type WorkerConnection } from "#stellium/cluster/control/server";
import { DeviceRegister } from "#stellium/cluster/identity/deviceRegister";
import { Membership } from "#stellium/cluster/identity/membership";
import { JoinToken } from "#stellium/cluster/token";

export const version = "0.1.0";
export const token = JoinToken.parse("correct horse battery staple");
/** Admits devices by the token, and gives no keys. */
export const register = DeviceRegister.unkept(token);
/** A device that joins by the token each time. */
export const membership = Membership.ofToken(token);
export const session = "0123456789abcdef";

export const hello: WorkerHello = {
  type: "hello",
  name: "pi",
  host: "pi.local",
  threads: 4,
  memoryCap: 3e9,
  features: ["neon", "dotprod"],
  cpuVariant: "armv8.2_1",
  ggml: "0.9.4",
  cache: [`${"ab".repeat(8)}-${"cd".repeat(8)}`],
  keepsKey: false,
};

/** A listener on loopback that logs nothing of what it drops, but collects it. */
export async function listen(options: Partial<ListenOptions> = {}) {
  const drops: string[] = [];
  const onDrop = (_: string, reason: string) => drops.push(reason);
  const listener = await listenForWorkers({ host: "127.0.0.1", register, version, onDrop, ...options });
  return { listener, drops, workers: listener[Symbol.asyncIterator]() };
}

/** The next worker, let in. */
export async function admit(workers: AsyncIterator<WorkerConnection>, rank = 1): Promise<WorkerConnection> {
  const { value, done } = await workers.next();
  if (done) throw new Error("the listener was closed");
  await value.channel.send({ type: "welcome", rank, size: 2, session });
  return value;
}

export interface Pair {
  readonly worker: WorkerConnection;
  readonly coordinator: CoordinatorConnection;
  readonly states: JoinState[];
  readonly close: () => Promise<void>;
}

/** Both ends of a connection in this process. */
export async function connectedPair(options: { heartbeat?: HeartbeatTimes; signal?: AbortSignal } = {}): Promise<Pair> {
  const { listener, workers } = await listen(options);
  const states: JoinState[] = [];
  const { port } = listener;
  const onState = (state: JoinState) => states.push(state);
  const at = { host: "127.0.0.1", port, membership };
  const joining = joinCoordinator({ ...at, version, hello: () => hello, onState, ...options });
  const [worker, joined] = await Promise.all([admit(workers), joining.next()]);
  const close = async () => {
    await Promise.all([joining.return(undefined as never), worker.channel.close("the test is over"), listener.close()]);
  };
  return { worker, coordinator: joined.value, states, close };
}

/** Another process; `device.mjs` says what it does. It ends by itself when nothing of it is left. */
export async function startDevice(role: "coordinator" | "worker", port = 0) {
  const child = fork(new URL("device.mjs", import.meta.url), [role, String(port), token.text], {
    env: { ...process.env, STELLIUM_LOG: "silent" },
  });
  const exited = once(child, "exit").then(([code]) => code as number | null);
  const said = new Said(child);
  const listening = role === "coordinator" ? (await said.next("listening")).port! : 0;
  return { child, said, exited, port: listening };
}

/** What a child has said. */
export interface Report {
  readonly type: string;
  readonly port?: number;
  readonly code?: string;
  readonly message?: string;
  readonly rss?: number;
  readonly counts?: Record<string, number>;
}

export class Said {
  readonly #child: ChildProcess;
  readonly reports: Report[] = [];

  constructor(child: ChildProcess) {
    this.#child = child;
    child.on("message", (report) => this.reports.push(report as Report));
  }

  /** Waits for the next report of this type that nobody has had. */
  async next(type: string): Promise<Report> {
    for (;;) {
      const at = this.reports.findIndex((report) => report.type === type);
      if (at >= 0) return this.reports.splice(at, 1)[0]!;
      const [event] = await Promise.race([
        once(this.#child, "message"),
        once(this.#child, "exit").then(() => ["exit"]),
      ]);
      if (event === "exit") throw new Error(`the device ended before it said ${type}`);
    }
  }
}

/** Resolves when the socket is closed, by an error or not. */
export function closing(socket: Socket): Promise<void> {
  socket.on("error", () => {});
  return new Promise((resolve) => {
    if (socket.closed) resolve();
    else socket.once("close", () => resolve());
  });
}

export async function eventually(condition: () => boolean, milliseconds = 60_000): Promise<void> {
  const deadline = performance.now() + milliseconds;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`not within ${milliseconds} ms: ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
