import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { threadsAmong } from "#stellium/cluster/threads";
import { requireGroups } from "./memory/contained.mjs";
import { generate } from "./memory/devices.mjs";
import { directRateOf } from "./memory/limit.mjs";
import { decodeMapped, mean } from "./memory/llama.mjs";
import { numbers, whole } from "./numbers.mjs";
import { abortOnSignals } from "./single/interruption.mjs";
import { withModel } from "./single/modelFile.mjs";
import { median } from "./single/statistics.mjs";

/** @typedef {import("./memory/devices.mjs").Subject} Subject */
/** @typedef {{ threads: number, prompt: string, tokens: number, rounds: number }} Effort */
/** @typedef {{ tokens: number[], promptTokens: number[] }} Written */

const text = /** @type {const} */ ("string");
const settings = /** @type {const} */ ({
  shape: { type: text, default: "qwen3-30b-a3b" },
  type: { type: text, default: "Q4_0" },
  layers: { type: text },
  caps: { type: text, default: "2000,4000,6000" },
  resident: { type: text, default: "20000" },
  words: { type: text, default: "64" },
  tokens: { type: text, default: "96" },
  rounds: { type: text, default: "2" },
  threads: { type: text, default: String(threadsAmong(1)) },
  dir: { type: text, default: tmpdir() },
});

/**
 * `experts`: decodes a mixture of experts that is streamed under caps in MB, in turns with llama.cpp over the mapped file in
 * the same control group, with the same tokens; and compares with the disk's rate and with all of it in memory.
 * @param {string[]} args
 */
export async function run(args) {
  const { shape, type, layers, caps, resident, dir, ...counts } = parseArgs({ args, options: settings }).values;
  requireGroups();
  const effort = {
    ...{
      threads: whole(counts.threads, 1, 1024),
      tokens: whole(counts.tokens, 3, 1000),
      rounds: whole(counts.rounds, 1, 100),
    },
    prompt: "a b c d e f g h "
      .repeat(whole(counts.words, 1, 1000))
      .split(" ", whole(counts.words))
      .join(" "),
  };
  const interruption = abortOnSignals();
  const { signal } = interruption;
  const cacheDir = mkdtempSync(join(dir, "stellium-bench-"));
  const common = { shape, type, layers: layers === undefined ? undefined : Number(layers), dir, signal };
  try {
    await withModel(common, async (path) => {
      const subject = { shape, path, cacheDir, signal };
      const computeMs = await residentMs(subject, whole(resident), effort);
      process.stdout.write(`all in memory: ${computeMs.toFixed(1)} ms per token\n`);
      for (const cap of numbers(caps, 1, 1e6)) await measureCap(subject, cap * 1e6, computeMs, effort);
    });
  } finally {
    interruption.end();
    rmSync(cacheDir, { recursive: true, force: true });
  }
}

/** Milliseconds per token if all is in memory. @param {Subject} subject @param {number} megabytes @param {Effort} effort */
async function residentMs(subject, megabytes, { rounds, ...effort }) {
  if (megabytes === 0) return Number.NaN;
  const run = { ...effort, capBytes: megabytes * 1e6, devices: 1, readBps: 0 };
  const { answer } = await generate(subject, run);
  return answer.timings.predicted_ms / (answer.timings.predicted_n - 1);
}

/** @param {Subject} subject @param {number} capBytes @param {number} computeMs @param {Effort} effort */
async function measureCap(subject, capBytes, computeMs, { rounds, ...effort }) {
  const run = { ...effort, capBytes, devices: 1, readBps: 0 };
  // Cuts the slice.
  await generate(subject, { ...run, tokens: 2 });
  /** @type {Awaited<ReturnType<typeof measureRound>>[]} */
  const done = [];
  for (let round = 0; round < rounds; round++) done.push(await measureRound(subject, run, computeMs));
  const of = (/** @type {(round: typeof done[number]) => number} */ figure) => median(done.map(figure));
  const llama = done.map(({ theirs }) => theirs).filter((theirs) => typeof theirs !== "string");
  const theirMs = median(llama.map(({ tokenMs }) => tokenMs));
  const failed = done.map(({ theirs }) => theirs).filter((theirs) => typeof theirs === "string");
  const lines = [
    `${capBytes / 1e6} MB: ${of(({ tokenMs }) => tokenMs).toFixed(1)} ms per token (prompt ${of(({ promptMs }) => promptMs).toFixed(0)} ms), ` +
      `${of(({ ratio }) => ratio).toFixed(2)} x the limit of ${of(({ limitMs }) => limitMs).toFixed(1)} ms`,
    `  read ${of(({ readBytes }) => readBytes / 1e6).toFixed(0)} MB per token at ${of(({ rate }) => rate / 1e9).toFixed(2)} GB/s; ` +
      `hits ${(100 * of(({ hitRate }) => hitRate)).toFixed(1)} %; computing ${of((round) => round.computeMs).toFixed(1)} ms, waiting for disk ${of(({ diskMs }) => diskMs).toFixed(1)} ms; ` +
      `fullest group ${of(({ peakBytes }) => peakBytes / 1e6).toFixed(0)} MB, ${Math.max(...done.map(({ oomKills }) => oomKills))} OOM kills`,
    `  llama.cpp over mmap: ${failed.length > 0 ? failed.join(", ") : ""} ${theirMs.toFixed(1)} ms per token ` +
      `(prompt ${median(llama.map(({ promptMs }) => promptMs)).toFixed(0)} ms): ${(theirMs / of(({ tokenMs }) => tokenMs)).toFixed(2)} x`,
  ];
  process.stdout.write(`${lines.join("\n")}\n`);
}

/** @param {Subject} subject @param {import("./memory/devices.mjs").Run} run @param {number} residentMs */
async function measureRound(subject, run, residentMs) {
  const before = await directRateOf(subject.path, 0, subject.signal);
  const { answer, charged } = await generate(subject, run);
  const rate = (before + (await directRateOf(subject.path, 0, subject.signal))) / 2;
  const { timings, devices, prompt_tokens: prompt, tokens } = answer;
  const [device] = /** @type {[import("./memory/devices.mjs").DeviceFigures]} */ (devices);
  const { expert_bytes_per_token: readBytes = 0, expert_hits: hits = 0, expert_misses: misses = 0 } = device;
  const tokenMs = timings.predicted_ms / (timings.predicted_n - 1);
  const limitMs = Math.max((readBytes / rate) * 1000, residentMs || 0);
  const request = { threads: run.threads, context: 256, prompt, tokens: tokens.slice(0, -1), converted: false };
  const theirs = await decodeMapped(subject, run.capBytes, request);
  return {
    ...{ tokenMs, promptMs: timings.prompt_ms, rate, readBytes, limitMs, ratio: tokenMs / limitMs, ...charged },
    ...{ computeMs: device.compute_ms / timings.predicted_n, diskMs: device.disk_wait_ms / timings.predicted_n },
    hitRate: hits / (hits + misses),
    theirs: typeof theirs === "string" ? theirs : { tokenMs: mean(theirs.stepMs), promptMs: theirs.promptMs },
  };
}
