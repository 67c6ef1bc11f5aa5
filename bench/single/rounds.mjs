import { join } from "node:path";
import { askChild } from "../child.mjs";
import { Conversation } from "../conversation.mjs";
import { openOracle } from "../oracleClient.mjs";

/** @typedef {import("../oracleClient.mjs").DecodeKind} DecodeKind */
/** @typedef {import("../singleEngine.mjs").EngineLoaded} EngineLoaded */
/** @typedef {import("../singleEngine.mjs").EngineMemory} EngineMemory */

/**
 * @typedef {object} Subject What is measured.
 * @property {string} path
 * @property {number} fileBytes
 * @property {number} unreadBytes Of the weights, those of experts that a token does not use.
 * @property {number} vocabulary
 * @property {import("./options.mjs").Options} options
 * @property {AbortSignal} signal
 */

/** @typedef {EngineLoaded & EngineMemory & { prefillMs: number[], tokenMs: number[] }} OurSample One process of Stellium. */
/** @typedef {import("../oracleClient.mjs").OracleLoaded & { peakRssBytes: number, prefillMs: number[] }} LlamaProcess */
/** @typedef {LlamaProcess & { decodeMs: Record<DecodeKind, number[]> }} LlamaSample One process of llama.cpp. */

/**
 * @typedef {object} Round
 * @property {number} bytesPerSecond Of plain reads of memory, on as many threads.
 * @property {OurSample[]} ours One for each poll level.
 * @property {LlamaSample} theirs
 */

const engine = join(import.meta.dirname, "..", "singleEngine.mjs");
const bandwidth = join(import.meta.dirname, "bandwidth.mjs");
export const context = 1024;
export const batch = 512;
/** The first warms up. */
const prefills = 3;
/** So many tokens one program decodes before it is the other's turn. */
const turnTokens = 8;
/** @type {readonly DecodeKind[]} */
const decodeKinds = ["generate", "step", "headless"];

/**
 * One round: memory, and then both programs in fresh processes, which take turns at every prompt and every few tokens, for
 * the machine's speed drifts by more than they differ.
 * @param {Subject} subject
 * @param {number} threads
 * @param {number} round
 * @returns {Promise<Round>}
 */
export async function measureRound(subject, threads, round) {
  const { bytesPerSecond } = await askChild("reading memory", bandwidth, { threads }, subject.signal);
  const { ours, theirs } = await measureInTurns(subject, threads, round);
  const others = [];
  for (const poll of subject.options.polls.slice(1)) others.push(await measureAlone(subject, threads, poll));
  return { bytesPerSecond, ours: [ours, ...others], theirs };
}

/**
 * Stellium as a process that waits for tasks, and what loading took.
 * @param {Subject} subject
 * @param {number} threads
 * @param {number} [poll]
 * @returns {Promise<{ stellium: Conversation, loaded: EngineLoaded }>}
 */
export async function openEngine({ path: model, options, signal }, threads, poll = options.polls[0] ?? 50) {
  const stellium = new Conversation("Stellium", engine, signal);
  /** @type {import("../singleEngine.mjs").EngineRequest} */
  const request = { model, threads, poll, context, batch };
  return { stellium, loaded: await stellium.ask(request) };
}

/** @param {Subject} subject @param {number} threads @param {number} round */
async function measureInTurns(subject, threads, round) {
  const { path: model, options, signal } = subject;
  const { stellium, loaded } = await openEngine(subject, threads);
  const llama = openOracle(signal);
  try {
    /** @type {import("../oracleClient.mjs").OracleLoaded} */
    const theirsLoaded = await llama.ask({ model, threads, contextSize: context, batchSize: batch });
    const turns = new Turns(stellium, llama, round);
    const tokens = promptOf(subject);
    for (let turn = 0; turn < prefills; turn++) await turns.prefill(tokens);
    for (let step = 0; step < options.steps; step += turnTokens)
      await turns.decode(Math.min(turnTokens, options.steps - step));
    const ours = { ...loaded, ...turns.ours, .../** @type {EngineMemory} */ (await stellium.ask({ kind: "memory" })) };
    const theirs = { ...theirsLoaded, ...turns.theirs, peakRssBytes: await llama.ask({ kind: "memory" }) };
    return { ours, theirs };
  } finally {
    await Promise.all([stellium.close(), llama.close()]);
  }
}

/** Two processes that never compute at the same time, and what each took. */
class Turns {
  ours = { prefillMs: /** @type {number[]} */ ([]), tokenMs: /** @type {number[]} */ ([]) };
  theirs = { prefillMs: /** @type {number[]} */ ([]), decodeMs: noTimes() };
  #stellium;
  #llama;
  #turn;

  /** @param {Conversation} stellium @param {Conversation} llama @param {number} first Odd numbers have llama.cpp begin. */
  constructor(stellium, llama, first) {
    this.#stellium = stellium;
    this.#llama = llama;
    this.#turn = first;
  }

  /** @param {number[]} tokens */
  async prefill(tokens) {
    const task = { kind: "prefill", tokens };
    await this.#both(
      async () => this.ours.prefillMs.push(await this.#stellium.ask(task)),
      async () => this.theirs.prefillMs.push(await this.#llama.ask(task)),
    );
  }

  /** So many tokens of Stellium's beside as many of each kind of llama.cpp's. @param {number} steps */
  async decode(steps) {
    for (const how of decodeKinds) {
      await this.#both(
        async () => this.ours.tokenMs.push(...(await this.#stellium.ask({ kind: "decode", steps }))),
        async () => this.theirs.decodeMs[how].push(...(await this.#llama.ask({ kind: "decode", how, steps }))),
      );
    }
  }

  /** Each begins every other time. @param {() => Promise<unknown>} ours @param {() => Promise<unknown>} theirs */
  async #both(ours, theirs) {
    const order = this.#turn++ % 2 === 0 ? [ours, theirs] : [theirs, ours];
    for (const action of order) await action();
  }
}

/** @returns {Record<DecodeKind, number[]>} */
function noTimes() {
  return { generate: [], step: [], headless: [] };
}

/** What another poll level takes. @param {Subject} subject @param {number} threads @param {number} poll @returns {Promise<OurSample>} */
async function measureAlone(subject, threads, poll) {
  const { stellium, loaded } = await openEngine(subject, threads, poll);
  try {
    const prefillMs = [await stellium.ask({ kind: "prefill", tokens: promptOf(subject) })];
    const tokenMs = await stellium.ask({ kind: "decode", steps: subject.options.steps });
    return { ...loaded, prefillMs, tokenMs, ...(await stellium.ask({ kind: "memory" })) };
  } finally {
    await stellium.close();
  }
}

/** Scattered over the vocabulary, behind its control tokens. @param {Subject} subject */
function promptOf({ vocabulary, options }) {
  return Array.from({ length: options.prompt }, (_, index) => 3 + ((index * 7919) % (vocabulary - 3)));
}
