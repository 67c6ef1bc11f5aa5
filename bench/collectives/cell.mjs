import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { predictMs } from "#stellium/collective/choose";
import { collectiveNames } from "#stellium/collective/collective";
import { expected } from "../lan/check.mjs";
import { startLan } from "../lan/lan.mjs";
import { median } from "../single/statistics.mjs";
import { askAll } from "./processes.mjs";

/** @typedef {import("./options.mjs").Options} Options */
/** @typedef {import("./rank.mjs").RankReply} RankReply */
/** @typedef {import("#stellium/collective/choose").LinkMeasurements} LinkMeasurements */
/** @typedef {Awaited<ReturnType<typeof startLan>>} Lan */
/** @typedef {{ ranks: number, latencyMs: number, mbit: number }} Cell */

/**
 * @typedef {object} Figures One payload in one cell; times in milliseconds, by collective.
 * @property {string} wire
 * @property {string} cipher
 * @property {number} bytes Of the encoded payload.
 * @property {number} repeats
 * @property {Record<string, number>} measured From when the last rank began until all had the sum: the median.
 * @property {Record<string, number>} nominal Predicted from the LAN's own figures.
 * @property {Record<string, number>} fitted Predicted from what the ranks measured of their links.
 * @property {string} pick Auto's.
 * @property {number} lateUs What 99 % of the switch's frames were late by at most: the machine's share, by cell.
 * @property {number} dropped Frames that found a queue full, by cell.
 */
/** @typedef {Cell & Figures} Row */

const script = join(import.meta.dirname, "rank.mjs");
const port = 7701;

/**
 * @param {Cell} cell
 * @param {Options} options
 * @param {AbortSignal} signal
 * @returns {Promise<Row[]>}
 */
export async function measureCell(cell, options, signal) {
  signal.throwIfAborted();
  const lan = await startLan({ devices: cell.ranks, latencyMs: cell.latencyMs, mbit: cell.mbit });
  try {
    const replies = await askRanks(lan, options, signal);
    return rowsOf(cell, options, replies, nominalOf(lan), await trouble(lan));
  } finally {
    await lan[Symbol.asyncDispose]();
  }
}

/** @param {Lan} lan @param {Options} options @param {AbortSignal} signal @returns {Promise<RankReply[]>} */
function askRanks(lan, { wire, cipher, payloads, budgetMs }, signal) {
  const addresses = lan.devices.map(({ address: host }) => ({ host, port }));
  const shared = { addresses, secret: randomBytes(32).toString("hex"), wire, cipher, payloads, budgetMs };
  const requests = lan.devices.map(({ index: rank }) => ({ ...shared, rank }));
  const children = lan.devices.map((device) =>
    device.spawn(process.execPath, [script], { stdio: ["pipe", "pipe", "inherit"] }),
  );
  return askAll(children, requests, signal);
}

/** The LAN's own figures, as `measure` would give them. @param {Lan} lan @returns {LinkMeasurements} */
function nominalOf({ links }) {
  const [first, second] = /** @type {[import("../lan/state.mjs").FullLink, import("../lan/state.mjs").FullLink]} */ (
    /** @type {unknown} */ (links)
  );
  const bytesPerMs = (expected(first, second).streamMbit * 1000) / 8;
  const table = (/** @type {number} */ value) =>
    links.map((_, from) => links.map((__, to) => (from === to ? 0 : value)));
  return { size: links.length, latencyMs: table(first.latencyMs), bytesPerMs: table(bytesPerMs) };
}

/** @param {Lan} lan */
async function trouble(lan) {
  const { lateness, ports } = await lan.counters();
  const dropped = ports.reduce((sum, { up, down, socketDrops }) => sum + up.dropped + down.dropped + socketDrops, 0);
  return { lateUs: lateness.p99Us, dropped };
}

/**
 * @param {Cell} cell
 * @param {Options} options
 * @param {RankReply[]} replies
 * @param {LinkMeasurements} nominal
 * @param {{ lateUs: number, dropped: number }} counted
 * @returns {Row[]}
 */
function rowsOf(cell, { wire, cipher }, replies, nominal, counted) {
  const [{ measurements, payloads }] = /** @type {[RankReply]} */ (replies);
  return payloads.map(({ encodedBytes, pick, spans }, at) => {
    const ranks = replies.map((reply) => reply.payloads[at]?.spans ?? {});
    const measured = Object.keys(spans).map((name) => [name, medianMs(ranks.map((own) => own[name] ?? []))]);
    return {
      ...{ ...cell, wire, cipher, bytes: encodedBytes, repeats: spans["auto"]?.length ?? 0, pick },
      measured: Object.fromEntries(measured),
      nominal: predicted(nominal, encodedBytes),
      fitted: predicted(measurements, encodedBytes),
      ...counted,
    };
  });
}

/** @param {import("./rank.mjs").Span[][]} ranks of all repeats, by rank */
function medianMs(ranks) {
  const repeats = ranks[0] ?? [];
  const times = repeats.map((_, repeat) => {
    const [starts, ends] = [0, 1].map((side) => ranks.map((spans) => spans[repeat]?.[side] ?? Number.NaN));
    return Math.max(...(ends ?? [])) - Math.max(...(starts ?? []));
  });
  return micro(median(times));
}

/** @param {LinkMeasurements} measurements @param {number} bytes */
function predicted(measurements, bytes) {
  return Object.fromEntries(collectiveNames.map((name) => [name, micro(predictMs(name, measurements, bytes))]));
}

/** @param {number} ms */
function micro(ms) {
  return Math.round(ms * 1000) / 1000;
}
