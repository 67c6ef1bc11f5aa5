import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const script = fileURLToPath(new URL("direct.mjs", import.meta.url));

/** Stellium in a process of its own, without HTTP. */
export class DirectModel {
  #child;
  #lines;

  /** @param {{ model: string, threads: number, context: number, streams: number }} request @param {AbortSignal} signal Kills it. */
  constructor(request, signal) {
    this.#child = spawn(process.execPath, [script], {
      stdio: ["pipe", "pipe", "inherit"],
      signal,
      killSignal: "SIGKILL",
    });
    this.#child.on("error", () => {});
    this.#child.stdin.on("error", () => {});
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
    this.ready = this.#ask(request);
  }

  /** See `StreamClient.rate`. @param {readonly number[][]} prompts @param {number} tokens @returns {Promise<number>} */
  async rate(prompts, tokens) {
    await this.ready;
    return await this.#ask({ prompts, tokens });
  }

  close() {
    this.#child.stdin.end();
  }

  /** @param {object} request */
  async #ask(request) {
    this.#child.stdin.write(`${JSON.stringify(request)}\n`);
    const { done, value } = await this.#lines.next();
    if (done) throw new Error("Stellium without HTTP ended");
    return JSON.parse(value);
  }
}
