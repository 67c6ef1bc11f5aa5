import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { JoinToken } from "./token.ts";

/** How devices on this machine are started. */
export interface LocalWorkersOptions {
  readonly count: number;
  readonly port: number;
  readonly token: JoinToken;
  readonly threads: number;
  readonly cacheDir?: string | undefined;
  /** Bytes that each may take. */
  readonly memory?: number | undefined;
  /** How many blocks its window holds. */
  readonly window?: number | undefined;
}

const main = fileURLToPath(new URL("../cli/main.js", import.meta.url));

/** Worker processes on this machine, which join over loopback like any others. They end when this process does. */
export class LocalWorkers implements AsyncDisposable {
  readonly #children: readonly ChildProcess[];

  constructor({ count, port, token, threads, cacheDir, memory, window }: LocalWorkersOptions) {
    const given = { "--cache-dir": cacheDir, "--memory": memory, "--window": window };
    const options = Object.entries(given).flatMap(([flag, value]) =>
      value === undefined ? [] : [flag, String(value)],
    );
    const common = [main, "join", `127.0.0.1:${port}`, "--threads", String(threads), ...options];
    const env = { ...process.env, STELLIUM_TOKEN: token.text };
    this.#children = Array.from({ length: count }, (_, i) =>
      // Over the channel a child notices that its parent is gone, however that came about.
      spawn(process.execPath, [...common, "--name", `local ${i + 1}`], {
        env,
        // Ctrl-C is for the process that was started by hand: it tells these when to end.
        detached: true,
        stdio: ["ignore", "ignore", "inherit", "ipc"],
      }),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#children.map(ended));
  }
}

const patienceMs = 3000;

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = new Promise((resolve) => child.once("exit", resolve));
  child.disconnect();
  const timer = setTimeout(() => child.kill("SIGKILL"), patienceMs);
  await exit;
  clearTimeout(timer);
}
