import { join } from "node:path";
import { askChild } from "../child.mjs";
import { median } from "../single/statistics.mjs";
import { inGroups, replyOf, startIn } from "./contained.mjs";
import { generate, streamedBytes, tokenMsOf } from "./devices.mjs";

/** @typedef {import("./devices.mjs").Subject} Subject */
/** @typedef {import("./devices.mjs").Answer} Answer */
/** @typedef {import("./contained.mjs").Charged} Charged */
/** @typedef {{ rounds: number, tokens: number, threads: number }} Effort */
/** @typedef {{ capBytes: number, devices: number, readBps: number }} Row */

/**
 * @typedef {object} Figures Of all rounds of a row; times are medians, in milliseconds per token.
 * @property {string} shape
 * @property {Row} row
 * @property {number} peakBytes What the fullest control group was charged with, in any run.
 * @property {number} oomKills
 * @property {number} peakRssBytes
 * @property {number} tokenMs
 * @property {number} computeMs Of the device that computes longest.
 * @property {number} streamedBytes That all devices together read for a token.
 * @property {number} directBytesPerSecond
 * @property {number} memoryBytesPerSecond
 * @property {number} limitMs The longer one of reading these bytes, and reading all weights from memory.
 * @property {number} ratio
 */

const bandwidth = join(import.meta.dirname, "../single/bandwidth.mjs");
const directRate = join(import.meta.dirname, "directRate.mjs");
const directSeconds = 1.5;
/** More tokens than any batch has in the contexts used here. */
const longPrompt = "a b c d ".repeat(30);

/**
 * Measures one row: first a run that cuts the slices and has a prompt as long as a batch, for the peak alone, then runs
 * with the disk's and the memory's rates taken before and after each.
 * @param {Subject} subject
 * @param {Row} row
 * @param {Effort} effort
 * @returns {Promise<Figures>}
 */
export async function measureRow(subject, row, effort) {
  const threads = Math.max(1, Math.floor(effort.threads / row.devices));
  const first = await generate(subject, { ...row, threads, readBps: 0, prompt: longPrompt, tokens: 2 });
  /** @type {Round[]} */
  const rounds = [];
  for (let round = 0; round < effort.rounds; round++) rounds.push(await measureRound(subject, row, threads, effort));
  const of = (/** @type {(round: Round) => number} */ figure) => median(rounds.map(figure));
  const runs = [first, ...rounds];
  return {
    ...{ shape: subject.shape, row },
    peakBytes: Math.max(...runs.map(({ charged }) => charged.peakBytes)),
    oomKills: Math.max(...runs.map(({ charged }) => charged.oomKills)),
    peakRssBytes: Math.max(...runs.flatMap(({ answer }) => answer.devices.map((device) => device.peak_rss_bytes))),
    ...{ tokenMs: of((round) => round.tokenMs), computeMs: of((round) => round.computeMs) },
    ...{ streamedBytes: streamedBytes(first.answer), limitMs: of((round) => round.limitMs) },
    directBytesPerSecond: of((round) => round.directBytesPerSecond),
    memoryBytesPerSecond: of((round) => round.memoryBytesPerSecond),
    ratio: of((round) => round.tokenMs / round.limitMs),
  };
}

/** @typedef {Awaited<ReturnType<typeof measureRound>>} Round */

/** @param {Subject} subject @param {Row} row @param {number} threads @param {Effort} effort */
async function measureRound(subject, row, threads, { tokens }) {
  const { path, signal } = subject;
  const before = await directRateOf(path, row.readBps, signal);
  const run = await generate(subject, { ...row, threads, prompt: "", tokens });
  const directBytesPerSecond = (before + (await directRateOf(path, row.readBps, signal))) / 2;
  const used = { threads: threads * row.devices };
  const { bytesPerSecond: memoryBytesPerSecond } = await askChild("reading memory", bandwidth, used, signal);
  const { devices, timings } = run.answer;
  const weightBytes = devices.reduce((sum, device) => sum + device.weight_bytes, 0);
  const diskMs = (streamedBytes(run.answer) / directBytesPerSecond) * 1000;
  return {
    ...{ ...run, directBytesPerSecond, memoryBytesPerSecond },
    tokenMs: tokenMsOf(run.answer),
    computeMs: Math.max(...devices.map((device) => device.compute_ms)) / timings.predicted_n,
    limitMs: Math.max(diskMs, (weightBytes / memoryBytesPerSecond) * 1000),
  };
}

/**
 * @param {string} path
 * @param {number} readBps
 * @param {AbortSignal} signal
 * @param {Partial<import("./directRate.mjs").Request>} [how]
 * @returns {Promise<number>}
 */
export async function directRateOf(path, readBps, signal, how = {}) {
  const input = JSON.stringify({ path, seconds: directSeconds, ...how });
  const { bytesPerSecond } = await inGroups(1, { readBps }, async ([group]) => {
    const child = startIn(group, [directRate], { signal, input });
    return replyOf("reading past the cache", await child.outcome);
  });
  return bytesPerSecond;
}
