import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { reasonOf, StelliumError } from "../errors.ts";
import { log } from "../log.ts";
import type { JoinToken } from "./token.ts";

/** Where devices on this machine are to join, and how they compute. */
export interface LocalInvitation {
  readonly port: number;
  readonly token: JoinToken;
  readonly threads: number;
  readonly cacheDir?: string | undefined;
  /** Bytes that the cache may take, which all of them share. */
  readonly cacheSize?: number | undefined;
  /** Bytes that each may take. */
  readonly memory?: number | undefined;
  /** How many blocks its window holds. */
  readonly window?: number | undefined;
}

/** What a process is told to start with. Plain data: it crosses processes, and shows in no list of them. */
export interface LocalOrders extends Omit<LocalInvitation, "token"> {
  readonly token: string;
  readonly name: string;
}

/** A message of a process: the reason it cannot go on, or a notice for its user. */
export type LocalReport = { readonly failed: string } | { readonly warning: string };

const program = fileURLToPath(new URL("../cli/localWorker.js", import.meta.url));
const patienceMs = 3000;

/**
 * Worker processes on this machine, which join over loopback like any others. They can be started before there is
 * anything to join, since starting takes them a while. They end when this process does.
 */
export class LocalWorkers implements AsyncDisposable {
  /** Rejects with `WORKER_LOST` as soon as one of them cannot start, or has ended. */
  readonly failed: Promise<never>;
  readonly #children: readonly ChildProcess[];

  /** Starts so many. Throws `WORKER_LOST` where the system refuses at once. */
  constructor(count: number) {
    this.#children = startAll(count);
    this.failed = Promise.race(this.#children.map((child, i) => failureOf(child, nameOf(i))));
    this.failed.catch(() => {});
    warnOnce(this.#children);
  }

  /** How many there are. */
  get count(): number {
    return this.#children.length;
  }

  /** Whether all of them run. One that has ended is not started again. */
  get complete(): boolean {
    return this.#children.every(({ exitCode, signalCode }) => exitCode === null && signalCode === null);
  }

  /** Has all of them join. */
  invite({ token, ...invitation }: LocalInvitation): void {
    for (const [i, child] of this.#children.entries()) {
      const orders: LocalOrders = { ...invitation, token: token.text, name: nameOf(i) };
      // A child that is gone is reported by `failed`.
      if (child.connected) child.send(orders, () => {});
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#children.map(ended));
  }
}

function nameOf(index: number): string {
  return `local ${index + 1}`;
}

function startAll(count: number): ChildProcess[] {
  const children: ChildProcess[] = [];
  try {
    // Over the channel a child notices that its parent is gone, however that came about.
    const stdio = ["ignore", "ignore", "inherit", "ipc"] as const;
    for (let i = 0; i < count; i++) children.push(spawn(process.execPath, [program], { stdio: [...stdio] }));
    return children;
  } catch (error) {
    for (const child of children) child.disconnect();
    throw cannotStart(nameOf(children.length), error);
  }
}

function cannotStart(device: string, error: unknown): StelliumError {
  const reason = `its process cannot be started: ${reasonOf(error)}`;
  return new StelliumError("WORKER_LOST", { device, reason }, { cause: error });
}

/** Logs what processes warn of. All of them use the same folders, and say the same. */
function warnOnce(children: readonly ChildProcess[]): void {
  const warned = new Set<string>();
  const hear = (message: LocalReport) => {
    if (!("warning" in message) || warned.has(message.warning)) return;
    warned.add(message.warning);
    log("warn", message.warning);
  };
  for (const child of children) child.on("message", hear);
}

function failureOf(child: ChildProcess, device: string): Promise<never> {
  let said: string | undefined;
  child.on("message", (message: LocalReport) => {
    if ("failed" in message) said = message.failed;
  });
  return new Promise((_, reject) => {
    child.once("error", (error) => reject(cannotStart(device, error)));
    child.once("exit", (code, signal) => {
      reject(new StelliumError("WORKER_LOST", { device, reason: said ?? `its process ended (${signal ?? code})` }));
    });
  });
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const exit = new Promise((resolve) => child.once("exit", resolve));
  if (child.connected) child.disconnect();
  const timer = setTimeout(() => child.kill("SIGKILL"), patienceMs);
  await exit;
  clearTimeout(timer);
}
