import { bodyOf, connections, get, post } from "../serve/client.mjs";
import { median } from "../single/statistics.mjs";
import { askAlone, faultOf, tokensOf } from "./questions.mjs";

/** @typedef {import("./questions.mjs").Question} Question */
/** @typedef {{ clients: number, seconds: number, seed: number }} Settings */

/**
 * @typedef {object} LoadReport
 * @property {number} answered
 * @property {number} nearTies Answers that part from the one given alone where two tokens were about equally likely.
 * @property {number} left Clients that left before the end.
 * @property {number} refused Told to ask again.
 * @property {{ early: number, late: number, growth: number, most: number }} rss Bytes behind the warm-up and in the end:
 *   medians.
 */

const sampleMs = 500;
/** Part of the time that warms up. */
const warmUp = 0.3;

/** Clients of a server, each asking, reading or leaving, and asking again. */
export class LoadRun {
  #url;
  #settings;
  #agent;
  #random;
  #until = 0;
  /** @type {unknown} */
  #fault;
  #report = { answered: 0, nearTies: 0, left: 0, refused: 0 };
  /** @type {number[]} */
  #rss = [];

  /** @param {string} url @param {Settings} settings */
  constructor(url, settings) {
    this.#url = url;
    this.#settings = settings;
    this.#agent = connections(settings.clients + 2);
    this.#random = createRandom(settings.seed);
  }

  /**
   * Throws where an answer is not what it is alone, something but "ask again" is refused, or a slot stays taken.
   * @returns {Promise<LoadReport>}
   */
  async run() {
    try {
      const questions = await askAlone(this.#agent, this.#completions);
      this.#until = performance.now() + this.#settings.seconds * 1000;
      const clients = Array.from({ length: this.#settings.clients }, () =>
        this.#guarded(() => this.#client(questions)),
      );
      await Promise.all([...clients, this.#guarded(() => this.#watch())]);
      if (this.#fault !== undefined) throw this.#fault;
      await this.#requireIdle();
      return { ...this.#report, rss: this.#growth() };
    } finally {
      this.#agent.destroy();
    }
  }

  get #completions() {
    return `${this.#url}/v1/completions`;
  }

  /** The first fault ends all. @param {() => Promise<void>} action */
  async #guarded(action) {
    try {
      await action();
    } catch (error) {
      this.#fault ??= error;
      this.#until = 0;
    }
  }

  /** @param {readonly Question[]} questions */
  async #client(questions) {
    while (performance.now() < this.#until) {
      const question = /** @type {Question} */ (questions[this.#whole(questions.length)]);
      const leaveAt = this.#random() < 0.3 ? this.#whole(question.answer.length + 1) : undefined;
      await this.#ask(question, this.#random() < 0.7, leaveAt);
    }
  }

  /** @param {Question} question @param {boolean} stream @param {number | undefined} leaveAt In tokens. */
  async #ask(question, stream, leaveAt) {
    const leaving = new AbortController();
    const leave = () => leaving.abort();
    if (leaveAt === 0 || (leaveAt !== undefined && !stream)) setTimeout(leave, this.#random() * 300);
    try {
      const response = await post(
        this.#agent,
        this.#completions,
        { ...question.body, stream, logprobs: 0 },
        leaving.signal,
      );
      if (response.statusCode === 429) return await this.#comeAgain(response);
      if (response.statusCode !== 200) throw new Error(`${response.statusCode}: ${await bodyOf(response)}`);
      /** @type {string[]} */
      const written = [];
      for await (const token of tokensOf(response, stream)) {
        if (written.push(token) === leaveAt) leave();
      }
      this.#check(question, written);
    } catch (error) {
      if (!leaving.signal.aborted) throw error;
      this.#report.left++;
    }
  }

  /** @param {import("node:http").IncomingMessage} response */
  async #comeAgain(response) {
    await bodyOf(response);
    this.#report.refused++;
    await pause(50);
  }

  /** @param {Question} question @param {readonly string[]} written */
  #check(question, written) {
    const fault = faultOf(question, written);
    if (fault !== undefined && fault !== "near-tie") throw new Error(fault);
    this.#report.answered++;
    if (fault !== undefined) this.#report.nearTies++;
  }

  async #watch() {
    while (performance.now() < this.#until) {
      this.#rss.push(await this.#metric("process_resident_memory_bytes"));
      await pause(sampleMs);
    }
  }

  /** @param {string} name */
  async #metric(name) {
    const text = await bodyOf(await get(this.#agent, `${this.#url}/metrics`));
    return Number(new RegExp(`^${name} (.*)$`, "m").exec(text)?.[1]);
  }

  /** Clients that left are noticed at once, but not in no time. */
  async #requireIdle() {
    for (const end = performance.now() + 10_000; ; await pause(50)) {
      const busy = await this.#metric("llamacpp:requests_processing");
      const waiting = await this.#metric("llamacpp:requests_deferred");
      if (busy === 0 && waiting === 0) return;
      if (performance.now() > end) throw new Error(`${busy} slots are taken and ${waiting} requests wait by nobody`);
    }
  }

  #growth() {
    const rest = this.#rss.slice(Math.floor(this.#rss.length * warmUp));
    const part = Math.ceil(rest.length / 4);
    const [early, late] = [median(rest.slice(0, part)), median(rest.slice(-part))];
    return { early, late, growth: late / early - 1, most: Math.max(...this.#rss) };
  }

  /** @param {number} below */
  #whole(below) {
    return Math.floor(this.#random() * below);
  }
}

/** Numbers from 0 to 1, the same for the same seed. @param {number} seed */
function createRandom(seed) {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** @param {number} ms */
function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
