import { join } from "node:path";
import { askChild } from "../child.mjs";
import { askOracle } from "../oracleClient.mjs";

/**
 * @typedef {object} Subject What is measured.
 * @property {string} path
 * @property {number} fileBytes
 * @property {number} vocabulary
 * @property {import("./options.mjs").Options} options
 * @property {AbortSignal} signal
 */

/**
 * @typedef {object} LlamaSample One process of llama.cpp.
 * @property {import("../oracleClient.mjs").OracleReply["llama"]} llama
 * @property {number} loadMs
 * @property {number} peakRssBytes
 * @property {number[]} prefillMs Up to the first token, as `generate` gives it.
 * @property {number[]} tokenMs
 * @property {import("../oracleClient.mjs").TimeResult} time
 */

/**
 * @typedef {object} Round
 * @property {number} bytesPerSecond Of plain reads of memory, on as many threads.
 * @property {import("../singleEngine.mjs").EngineReply[]} ours One for each poll level.
 * @property {LlamaSample} theirs
 */

const engine = join(import.meta.dirname, "..", "singleEngine.mjs");
const bandwidth = join(import.meta.dirname, "bandwidth.mjs");
export const context = 1024;
export const batch = 512;
/** The first warms up. */
const prefills = 3;

/**
 * One round: memory, and then both programs, each in a fresh process; every other round has them the other way round.
 * @param {Subject} subject
 * @param {number} threads
 * @param {number} round
 * @returns {Promise<Round>}
 */
export async function measureRound(subject, threads, round) {
  const { signal } = subject;
  const { bytesPerSecond } = await askChild("reading memory", bandwidth, { threads }, signal);
  if (round % 2 === 1) {
    const theirs = await measureLlama(subject, threads);
    return { bytesPerSecond, theirs, ours: await measureOurs(subject, threads) };
  }
  const ours = await measureOurs(subject, threads);
  return { bytesPerSecond, ours, theirs: await measureLlama(subject, threads) };
}

/**
 * @param {Subject} subject
 * @param {number} threads
 * @returns {import("../singleEngine.mjs").EngineRequest}
 */
export function engineRequest(subject, threads) {
  const { path: model, options } = subject;
  const { polls, steps } = options;
  return { model, threads, poll: polls[0] ?? 50, context, batch, prompt: promptOf(subject), prefills, steps };
}

/** @param {Subject} subject @param {number} threads */
async function measureOurs(subject, threads) {
  const request = engineRequest(subject, threads);
  const { polls } = subject.options;
  /** @type {import("../singleEngine.mjs").EngineReply[]} */
  const replies = [];
  for (const [index, poll] of polls.entries()) {
    const varied = { ...request, poll, prefills: index === 0 ? prefills : 1 };
    replies.push(await askChild("Stellium", engine, varied, subject.signal));
  }
  return replies;
}

/** @param {Subject} subject @param {number} threads @returns {Promise<LlamaSample>} */
async function measureLlama(subject, threads) {
  const { path: model, signal, options } = subject;
  const tokens = promptOf(subject);
  /** @type {import("../oracleClient.mjs").OracleTask[]} */
  const tasks = [
    { kind: "generate", tokens, count: options.steps + 1 },
    { kind: "generate", tokens, count: 1, repeat: prefills - 1 },
    { kind: "time", tokens, steps: options.steps },
  ];
  const request = { model, threads, contextSize: context, batchSize: batch, tasks };
  const { results, ...reply } = await askOracle(request, signal);
  const [[generated], prefilled, time] = results;
  const prefillMs = [generated, ...prefilled].map(({ first_ms }) => first_ms);
  return { ...reply, prefillMs, tokenMs: generated.token_ms, time };
}

/** Scattered over the vocabulary, behind its control tokens. @param {Subject} subject */
function promptOf({ vocabulary, options }) {
  return Array.from({ length: options.prompt }, (_, index) => 3 + ((index * 7919) % (vocabulary - 3)));
}
