import { mkdtempSync, rmSync, statfsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { threadsAmong } from "#stellium/cluster/threads";
import { requireGroups } from "./memory/contained.mjs";
import { generate, streamedBytes, tokenMsOf } from "./memory/devices.mjs";
import { serveModel } from "./model/rangeServer.mjs";
import { whole } from "./numbers.mjs";
import { abortOnSignals } from "./single/interruption.mjs";

/** @typedef {Awaited<ReturnType<typeof generate>>} Outcome */

const text = /** @type {const} */ ("string");
const settings = /** @type {const} */ ({
  shape: { type: text, default: "llama-2-70b" },
  type: { type: text, default: "Q4_0" },
  layers: { type: text },
  devices: { type: text, default: "8" },
  worker: { type: text, default: "512" },
  leader: { type: text, default: "768" },
  alone: { type: text, default: "3000" },
  tokens: { type: text, default: "16" },
  // Rounds less than the default, so that tokens can be compared with those of one device.
  wire: { type: text, default: "f32" },
  dir: { type: text, default: tmpdir() },
});
/** Beyond the slices: what Stellium leaves free, headers, vocabulary and embedding. */
const spareBytes = 2e9;

/**
 * `large`: has devices share a model that is served from nowhere but a seed, each in a control group of its cap, so that
 * only slices lie on a disk; then one device alone. Says what each took, and whether their tokens are the same.
 * @param {string[]} args
 */
export async function run(args) {
  const { shape, type, layers, dir, wire, ...counts } = parseArgs({ args, options: settings }).values;
  const { devices, worker, leader, alone, tokens } = wholeNumbers(counts);
  requireGroups();
  const interruption = abortOnSignals();
  const server = await serveModel({ shape, type, layers: layers === undefined ? undefined : Number(layers) });
  const folder = mkdtempSync(join(dir, "stellium-bench-"));
  try {
    requireRoom(folder, server.fileBytes);
    const subject = { shape, path: server.url, signal: interruption.signal };
    const common = { readBps: 0, prompt: "", tokens, wire };
    const caps = { capBytes: worker * 1e6, leaderCapBytes: leader * 1e6 };
    const shared = await measure(subject, folder, { ...common, ...caps, devices, threads: threadsAmong(devices) });
    const single = { ...common, capBytes: alone * 1e6, devices: 1, threads: threadsAmong(1) };
    const one = await measure(subject, folder, single);
    compare(shared.answer.tokens, one.answer.tokens);
  } finally {
    await server.close();
    interruption.end();
    rmSync(folder, { recursive: true });
  }
}

/** @param {Record<string, string>} values @returns {Record<"devices" | "worker" | "leader" | "alone" | "tokens", number>} */
function wholeNumbers(values) {
  const entries = Object.entries(values).map(([name, value]) => [name, whole(value)]);
  return Object.fromEntries(entries);
}

/** @param {string} folder @param {number} fileBytes */
function requireRoom(folder, fileBytes) {
  const { bavail, bsize } = statfsSync(folder);
  const [needed, free] = [fileBytes + spareBytes, bavail * bsize];
  if (free < needed) throw new Error(`slices need ${gigabytes(needed)}, and the disk has ${gigabytes(free)} free`);
}

/**
 * Cuts the slices by a run of two tokens, then writes, then removes them.
 * @param {Omit<import("./memory/devices.mjs").Subject, "cacheDir">} subject
 * @param {string} folder
 * @param {import("./memory/devices.mjs").Run} run
 * @returns {Promise<Outcome>}
 */
async function measure(subject, folder, run) {
  const cacheDir = join(folder, String(run.devices));
  const where = { ...subject, cacheDir };
  try {
    const first = await timed(() => generate(where, { ...run, tokens: 2 }));
    const second = await timed(() => generate(where, run));
    report(run, first, second);
    return second.result;
  } finally {
    rmSync(cacheDir, { recursive: true, force: true });
  }
}

/**
 * @template T
 * @param {() => Promise<T>} what
 */
async function timed(what) {
  const started = performance.now();
  const result = await what();
  return { result, seconds: (performance.now() - started) / 1000 };
}

/**
 * @param {import("./memory/devices.mjs").Run} run
 * @param {{ result: Outcome, seconds: number }} first
 * @param {{ result: Outcome, seconds: number }} second
 */
function report({ devices, capBytes, leaderCapBytes = capBytes }, first, { result: { answer, charged }, seconds }) {
  const peaks = answer.devices.map((device) => (device.peak_rss_bytes / 1e6).toFixed(0));
  const lines = [
    `${devices} x ${capBytes / 1e6} MB (the first: ${leaderCapBytes / 1e6} MB)`,
    `  first start and 2 tokens: ${first.seconds.toFixed(0)} s; second start and ${answer.timings.predicted_n} tokens: ${seconds.toFixed(0)} s`,
    `  ${(tokenMsOf(answer) / 1000).toFixed(2)} s per token, ${gigabytes(streamedBytes(answer))} read for each`,
    `  peak RSS, MB: ${peaks.join(", ")}; fullest control group: ${(charged.peakBytes / 1e6).toFixed(0)} MB; OOM kills: ${charged.oomKills}`,
    `  tokens: ${answer.tokens.join(" ")}`,
  ];
  process.stdout.write(`${lines.join("\n")}\n`);
}

/** @param {number[]} shared @param {number[]} alone */
function compare(shared, alone) {
  const other = shared.findIndex((token, i) => token !== alone[i]);
  const verdict = other < 0 ? "the same tokens" : `the same first ${other} tokens, then others`;
  process.stdout.write(`${verdict}\n`);
}

/** @param {number} bytes */
function gigabytes(bytes) {
  return `${(bytes / 1e9).toFixed(1)} GB`;
}
