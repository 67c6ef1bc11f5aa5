import { fork, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { JoinToken } from "#stellium/cluster/token";

/** @typedef {import("node:child_process").ChildProcess} ChildProcess */
/** @typedef {{ type: string, port?: number, joined?: number, rss?: number, text?: string, error?: string }} Report */

/** The bundled model. */
export const model = fileURLToPath(new URL("../../models/stellium-shakespeare-5m-q8_0.gguf", import.meta.url));
const main = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

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

  /** The next report of a type that nobody has had. @param {string} type @returns {Promise<Report>} */
  async next(type) {
    for (;;) {
      const at = this.#reports.findIndex((report) => report.type === type);
      const [report] = at < 0 ? [] : this.#reports.splice(at, 1);
      if (report) return report;
      if (this.#coordinator.exitCode !== null)
        throw new Error(`the coordinator ended with ${this.#coordinator.exitCode}`);
      const leaving = new AbortController();
      const { signal } = leaving;
      const events = ["message", "exit"].map((event) => once(this.#coordinator, event, { signal }).catch(() => {}));
      await Promise.race(events);
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
