import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

/** A module in a process of its own, which answers each line of JSON on stdin by one on stdout; see `answerLines`. */
export class Conversation {
  #what;
  #signal;
  #child;
  #ended;
  #replies;

  /**
   * Starts the process.
   * @param {string} what Its name, for an error.
   * @param {string} script
   * @param {AbortSignal} [signal] Kills it.
   */
  constructor(what, script, signal) {
    signal?.throwIfAborted();
    const kill = signal ? { signal, killSignal: /** @type {const} */ ("SIGKILL") } : {};
    this.#what = what;
    this.#signal = signal;
    this.#child = spawn(process.execPath, [script], { stdio: ["pipe", "pipe", "inherit"], ...kill });
    this.#ended = once(this.#child, "close").catch(() => {});
    // A process that dies ends its replies, which tells enough.
    this.#child.on("error", () => {});
    this.#child.stdin.on("error", () => {});
    this.#replies = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  /**
   * One question at a time.
   * @param {unknown} question
   * @returns {Promise<any>}
   */
  async ask(question) {
    this.#child.stdin.write(`${JSON.stringify(question)}\n`);
    const { done, value } = await this.#replies.next();
    if (!done) return JSON.parse(value);
    this.#signal?.throwIfAborted();
    await this.#ended;
    throw new Error(`${this.#what} failed: exit ${this.#child.exitCode ?? this.#child.signalCode}`);
  }

  /** Tells it that nothing more is asked, and resolves when it has gone. */
  async close() {
    this.#child.stdin.end();
    await this.#ended;
  }
}

/**
 * The other end: answers each line of JSON on stdin by one on stdout, until there are no more.
 * @param {(question: any) => unknown} answer
 */
export async function answerLines(answer) {
  for await (const line of createInterface({ input: process.stdin })) {
    process.stdout.write(`${JSON.stringify((await answer(JSON.parse(line))) ?? null)}\n`);
  }
}
