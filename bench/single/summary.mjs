import { fastestDecile, median } from "./statistics.mjs";

/** @typedef {{ medianMs: number, fastestDecileMs: number, perSecond: number }} Decode Per token; the speed is the median's. */
/** @typedef {{ medianMs: number, perSecond: number }} Prefill Of the whole prompt; tokens per second. */

/**
 * @typedef {object} OurFigures
 * @property {Prefill} prefill
 * @property {Decode} decode
 * @property {({ poll: number } & Decode)[]} polls
 * @property {number} loadMs
 * @property {number} peakRssBytes The largest of all processes.
 * @property {number} budgetBytes
 * @property {number} weightBytes
 * @property {number} kvBytes
 * @property {number} computeBytes
 * @property {number} memoryShare Of the speed of plain reads, what decode reaches.
 */

/**
 * @typedef {object} LlamaFigures
 * @property {Prefill} prefill With the head, up to the first token.
 * @property {Decode} generate As a user of node-llama-cpp gets it.
 * @property {Decode} step A single evaluation with the head and a greedy choice.
 * @property {Decode} headless A single evaluation without the head.
 * @property {number} loadMs
 * @property {number} peakRssBytes
 */

/** @typedef {{ loadMs: number, readMs: number, fromDisk: boolean }} ColdFigures */

/**
 * @typedef {object} ThreadFigures
 * @property {number} threads
 * @property {number} memoryBytesPerSecond
 * @property {OurFigures} ours
 * @property {LlamaFigures} theirs
 * @property {ColdFigures | undefined} cold
 */

/** Node and the native libraries, and what a step computes with. */
const overheadBytes = 180e6;

/**
 * @param {number} threads
 * @param {Pick<import("./rounds.mjs").Subject, "options" | "unreadBytes">} subject
 * @param {import("./rounds.mjs").Round[]} rounds
 * @param {import("./cold.mjs").ColdSamples | undefined} cold
 * @returns {ThreadFigures}
 */
export function figuresOf(threads, { options, unreadBytes }, rounds, cold) {
  const memoryBytesPerSecond = median(rounds.map(({ bytesPerSecond }) => bytesPerSecond));
  const ours = ourFigures(options, unreadBytes, rounds, memoryBytesPerSecond);
  const theirs = llamaFigures(
    options,
    rounds.map((round) => round.theirs),
  );
  return { threads, memoryBytesPerSecond, ours, theirs, cold: cold && coldFigures(threads, cold) };
}

/**
 * @param {import("./options.mjs").Options} options
 * @param {number} unreadBytes
 * @param {import("./rounds.mjs").Round[]} rounds
 * @param {number} memoryBytesPerSecond
 * @returns {OurFigures}
 */
function ourFigures({ polls, prompt }, unreadBytes, rounds, memoryBytesPerSecond) {
  const replies = rounds.flatMap(({ ours }) => ours.slice(0, 1));
  const [{ weightBytes = 0, kvBytes = 0, computeBytes = 0 } = {}] = replies;
  const decode = decodeOf(replies.flatMap(({ tokenMs }) => tokenMs));
  return {
    prefill: prefillOf(prompt, warm(replies)),
    decode,
    polls: polls.map((poll, at) => ({ poll, ...decodeOf(rounds.flatMap(({ ours }) => ours[at]?.tokenMs ?? [])) })),
    ...processOf(replies),
    ...{ budgetBytes: weightBytes + kvBytes + overheadBytes, weightBytes, kvBytes, computeBytes },
    memoryShare: ((weightBytes - unreadBytes) * decode.perSecond) / memoryBytesPerSecond,
  };
}

/**
 * @param {import("./options.mjs").Options} options
 * @param {import("./rounds.mjs").LlamaSample[]} samples
 * @returns {LlamaFigures}
 */
function llamaFigures({ prompt }, samples) {
  /** @param {import("./rounds.mjs").DecodeKind} kind */
  const decode = (kind) => decodeOf(samples.flatMap(({ decodeMs }) => decodeMs[kind]));
  return {
    prefill: prefillOf(prompt, warm(samples)),
    generate: decode("generate"),
    step: decode("step"),
    headless: decode("headless"),
    ...processOf(samples),
  };
}

/**
 * @param {number} threads
 * @param {import("./cold.mjs").ColdSamples} samples
 * @returns {ColdFigures}
 */
function coldFigures(threads, { reads, loads }) {
  const own = loads.filter((load) => load.threads === threads);
  const fromDisk = [...reads, ...own].every((sample) => sample.fromDisk);
  return { loadMs: median(own.map(({ ms }) => ms)), readMs: median(reads.map(({ ms }) => ms)), fromDisk };
}

/** @param {{ loadMs: number, peakRssBytes: number }[]} processes */
function processOf(processes) {
  return {
    loadMs: median(processes.map(({ loadMs }) => loadMs)),
    peakRssBytes: Math.max(...processes.map(({ peakRssBytes }) => peakRssBytes)),
  };
}

/** All prefills but each process's first. @param {{ prefillMs: number[] }[]} processes */
function warm(processes) {
  return processes.flatMap(({ prefillMs }) => prefillMs.slice(1));
}

/** @param {number} tokens @param {number[]} ms @returns {Prefill} */
function prefillOf(tokens, ms) {
  return { medianMs: median(ms), perSecond: (tokens / median(ms)) * 1000 };
}

/** @param {number[]} ms @returns {Decode} */
function decodeOf(ms) {
  return { medianMs: median(ms), fastestDecileMs: fastestDecile(ms), perSecond: 1000 / median(ms) };
}
