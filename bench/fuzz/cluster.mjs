import { fork, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { JoinToken } from "#stellium/cluster/token";

/** @typedef {import("node:child_process").ChildProcess} ChildProcess */
/** @typedef {{ type: string, port?: number, joined?: number, rss?: number, text?: string, error?: string, state?: object }} Report */

/** The bundled model. */
export const model = fileURLToPath(new URL("../../models/stellium-shakespeare-5m-q8_0.gguf", import.meta.url));
const main = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

/** Milliseconds that a report may take: as long as a sum, the longest of the limits of a cluster that has loaded its slices. */
const patienceMs = 120_000;
/** Milliseconds to say what it waits for. */
const stateMs = 5_000;

/** A coordinator and workers, each a process, that share the bundled model. */
export class LiveCluster {
  token;
  port = 0;
  #folder;
  #coordinator;
  /** @type {Report[]} */
  #reports = [];
  /** @type {ChildProcess[]} In the order in which they were started. */
  workers = [];

  /**
   * @param {string} folder for slices @param {number} workers
   * @param {{ token?: JoinToken, port?: number }} entrance where devices join; a free port and a new token if absent
   */
  constructor(folder, workers, { token = JoinToken.generate(), port = 0 } = {}) {
    const program = fileURLToPath(new URL("./coordinator.mjs", import.meta.url));
    const env = { ...process.env, STELLIUM_LOG: process.env["STELLIUM_LOG"] ?? "silent" };
    this.token = token;
    this.#folder = folder;
    this.#coordinator = fork(program, [model, token.text, folder, String(workers), String(port)], { env });
    this.#coordinator.on("message", (report) => this.#reports.push(/** @type {Report} */ (report)));
  }

  /** @param {string} folder @param {readonly string[]} names */
  static async start(folder, names) {
    const cluster = new LiveCluster(folder, names.length);
    cluster.port = (await cluster.next("join")).port ?? 0;
    for (const name of names) cluster.join(name);
    await cluster.next("ready");
    return cluster;
  }

  /** A device joins. @param {string} name */
  join(name) {
    const args = [
      main,
      "join",
      `127.0.0.1:${this.port}`,
      "--threads",
      "1",
      "--name",
      name,
      "--cache-dir",
      this.#folder,
    ];
    const env = {
      ...process.env,
      STELLIUM_TOKEN: this.token.text,
      STELLIUM_LOG: process.env["STELLIUM_LOG"] ?? "silent",
    };
    // Over the channel it notices that this process is gone.
    const worker = spawn(process.execPath, args, { env, stdio: ["ignore", "ignore", "ignore", "ipc"] });
    this.workers.push(worker);
    return worker;
  }

  /** What it writes, or why it does not. */
  async ask() {
    this.#coordinator.send("ask");
    return await this.#answer();
  }

  /**
   * Ends workers in the middle of a request: a loss that is noticed between two would have the next one wait for others to
   * join. Returns what the coordinator says to it.
   * @param {readonly ChildProcess[]} workers
   */
  async lose(workers) {
    for (const worker of workers) worker.kill("SIGSTOP");
    this.#coordinator.send("ask and tell");
    await this.next("working");
    for (const worker of workers) worker.kill("SIGKILL");
    return await this.#answer();
  }

  async #answer() {
    const { text, error } = await this.next("answer");
    return text ?? `failed: ${error}`;
  }

  /** Bytes of memory that its coordinator takes. */
  async ownMemory() {
    this.#coordinator.send("report");
    return (await this.next("report")).rss ?? 0;
  }

  /** Bytes of memory that its processes take. */
  async memory() {
    return (await this.ownMemory()) + this.workers.reduce((sum, worker) => sum + memoryOf(worker), 0);
  }

  /** Resolves when all places are taken. */
  async complete() {
    await this.next("ready");
  }

  /**
   * Resolves with the next unread report of a type. Rejects after `patienceMs`, naming what the coordinator waits for.
   * @param {string} type
   */
  async next(type) {
    const report = await this.#within(patienceMs, type);
    if (report) return report;
    this.#coordinator.send("state");
    const { state = "it does not even say what it waits for" } = (await this.#within(stateMs, "state")) ?? {};
    const ended = this.workers.map(({ exitCode, signalCode }) => exitCode ?? signalCode ?? "runs");
    throw new Error(`no ${type} in ${patienceMs / 1000} s: ${JSON.stringify({ state, workers: ended })}`);
  }

  /** The next report of a type; undefined if there is none in time. @param {number} ms @param {string} type */
  async #within(ms, type) {
    const deadline = performance.now() + ms;
    for (;;) {
      const at = this.#reports.findIndex((report) => report.type === type);
      if (at >= 0) return this.#reports.splice(at, 1)[0];
      const left = deadline - performance.now();
      if (left <= 0) return undefined;
      if (this.#coordinator.exitCode !== null)
        throw new Error(`the coordinator ended with ${this.#coordinator.exitCode}`);
      const leaving = new AbortController();
      const { signal } = leaving;
      const timer = setTimeout(() => leaving.abort(), left);
      const events = ["message", "exit"].map((event) => once(this.#coordinator, event, { signal }).catch(() => {}));
      await Promise.race(events);
      clearTimeout(timer);
      leaving.abort();
    }
  }

  /** Whether no process has ended by itself. */
  get sound() {
    return [this.#coordinator, ...this.workers].every(({ exitCode }) => exitCode === null);
  }

  async [Symbol.asyncDispose]() {
    for (const worker of this.workers) worker.kill("SIGKILL");
    if (this.#coordinator.exitCode !== null) return;
    const exited = once(this.#coordinator, "exit");
    this.#coordinator.send("close");
    const timer = setTimeout(() => this.#coordinator.kill("SIGKILL"), 5000);
    await exited;
    clearTimeout(timer);
  }
}

/** Where the system tells. @param {ChildProcess} worker */
function memoryOf({ pid, exitCode, signalCode }) {
  if (process.platform !== "linux" || exitCode !== null || signalCode !== null) return 0;
  const [, pages = "0"] = readFileSync(`/proc/${pid}/statm`, "utf8").split(" ");
  return Number(pages) * 4096;
}
