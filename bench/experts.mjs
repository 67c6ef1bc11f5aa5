import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { threadsAmong } from "#stellium/cluster/threads";
import { requireGroups } from "./memory/contained.mjs";
import { generate, tokenMsOf } from "./memory/devices.mjs";
import { directRateOf } from "./memory/limit.mjs";
import { decodeMapped, mean } from "./memory/llama.mjs";
import { numbers, whole } from "./numbers.mjs";
import { abortOnSignals } from "./single/interruption.mjs";
import { withModel } from "./single/modelFile.mjs";
import { median } from "./single/statistics.mjs";

/** @typedef {import("./memory/devices.mjs").Subject} Subject */
/** @typedef {{ threads: number, prompt: string, tokens: number, rounds: number }} Effort */

/** llama.cpp is stopped after this time, however many tokens are left. */
const mostMs = 120_000;
const text = /** @type {const} */ ("string");
const settings = /** @type {const} */ ({
  shape: { type: text, default: "qwen3-30b-a3b" },
  type: { type: text, default: "Q4_0" },
  layers: { type: text },
  model: { type: text },
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
  const { shape, type, layers, model, caps, resident, dir, ...counts } = parseArgs({ args, options: settings }).values;
  requireGroups();
  const effort = {
    ...{
      threads: whole(counts.threads, 1, 1024),
      tokens: whole(counts.tokens, 3, 1000),
      rounds: whole(counts.rounds, 1, 100),
    },
    prompt: Array.from({ length: whole(counts.words, 1, 1000) }, (_, i) => "abcdefgh"[i % 8]).join(" "),
  };
  const interruption = abortOnSignals();
  const { signal } = interruption;
  const cacheDir = mkdtempSync(join(dir, "stellium-bench-"));
  const common = { shape, type, layers: layers === undefined ? undefined : Number(layers), dir, signal };
  try {
    const measure = async (/** @type {string} */ path) => {
      const subject = { shape, path, cacheDir, signal };
      const computeMs = await residentMs(subject, whole(resident, 0), effort);
      process.stdout.write(`all in memory: ${computeMs.toFixed(1)} ms per token\n`);
      for (const cap of numbers(caps, 1, 1e6)) await measureCap(subject, cap * 1e6, computeMs, effort);
    };
    await (model === undefined ? withModel(common, measure) : measure(model));
  } finally {
    interruption.end();
    rmSync(cacheDir, { recursive: true, force: true });
  }
}

/** Milliseconds per token if all is in memory. @param {Subject} subject @param {number} megabytes @param {Effort} effort */
async function residentMs(subject, megabytes, effort) {
  if (megabytes === 0) return Number.NaN;
  const { answer } = await generate(subject, runOf(effort, megabytes * 1e6));
  return tokenMsOf(answer);
}

/** @param {Effort} effort @param {number} capBytes */
function runOf({ threads, prompt, tokens }, capBytes) {
  return { ...{ threads, prompt, tokens, capBytes }, devices: 1, readBps: 0, sampled: true };
}

/** @param {Subject} subject @param {number} capBytes @param {number} computeMs @param {Effort} effort */
async function measureCap(subject, capBytes, computeMs, effort) {
  const run = runOf(effort, capBytes);
  // Cuts the slice, and shows what the prompt takes.
  await generate(subject, { ...run, tokens: 2 });
  const { answer: short } = await generate(subject, { ...run, tokens: 2 });
  /** @type {Round[]} */
  const rounds = [];
  for (let round = 0; round < effort.rounds; round++)
    rounds.push(await measureRound(subject, run, short.devices[0], computeMs));
  process.stdout.write(`${linesOf(capBytes, rounds).join("\n")}\n`);
}

/** @typedef {Awaited<ReturnType<typeof measureRound>>} Round */

/**
 * @param {Subject} subject
 * @param {ReturnType<typeof runOf>} run
 * @param {import("./memory/devices.mjs").DeviceFigures | undefined} short Of a run with two tokens.
 * @param {number} residentMs
 */
async function measureRound(subject, run, short, residentMs) {
  const before = await rateOf(subject);
  const { answer, charged } = await generate(subject, run);
  const rate = (before + (await rateOf(subject))) / 2;
  const { timings, devices, prompt_tokens: prompt, tokens } = answer;
  const [device] = devices;
  const readBytes = device?.expert_bytes_per_token ?? 0;
  const tokenMs = tokenMsOf(answer);
  const limitMs = Math.max((readBytes / rate) * 1000, residentMs || 0);
  /** Of each token after the second. @param {(figures: import("./memory/devices.mjs").DeviceFigures) => number} figure */
  const each = (figure) => (device && short ? (figure(device) - figure(short)) / (timings.predicted_n - 2) : 0);
  const misses = each(({ expert_misses = 0 }) => expert_misses);
  const request = { threads: run.threads, context: 256, prompt, tokens: tokens.slice(0, -1), converted: false };
  const theirs = await decodeMapped(subject, run.capBytes, { ...request, mostMs });
  return {
    ...{ tokenMs, promptMs: timings.prompt_ms, rate, readBytes, limitMs, ratio: tokenMs / limitMs, ...charged },
    ...{ computeMs: each(({ compute_ms }) => compute_ms), diskMs: each(({ disk_wait_ms }) => disk_wait_ms) },
    hitRate: 1 - misses / (misses + each(({ expert_hits = 0 }) => expert_hits)),
    ahead: each(({ experts_read_ahead = 0 }) => experts_read_ahead) / misses,
    theirs: typeof theirs === "string" ? theirs : { ...theirs, tokenMs: mean(theirs.stepMs) },
  };
}

/** The disk's rate for reads as those of experts. @param {Subject} subject */
function rateOf({ path, signal }) {
  return directRateOf(path, 0, signal, { requestBytes: 864 << 10, readers: 3, scattered: true });
}

/** @param {number} capBytes @param {readonly Round[]} rounds */
function linesOf(capBytes, rounds) {
  const of = (/** @type {(round: Round) => number} */ figure, digits = 0) => median(rounds.map(figure)).toFixed(digits);
  const failures = rounds.map(({ theirs }) => theirs).filter((theirs) => typeof theirs === "string");
  const llama = rounds.map(({ theirs }) => theirs).filter((theirs) => typeof theirs !== "string");
  const theirMs = median(llama.map(({ tokenMs }) => tokenMs));
  const mapped =
    failures.length > 0
      ? failures.join(", ")
      : `${theirMs.toFixed(0)} ms per token (${llama.map(({ stepMs }) => stepMs.length).join(", ")} tokens; prompt ` +
        `${median(llama.map(({ promptMs }) => promptMs)).toFixed(0)} ms)`;
  return [
    `${capBytes / 1e6} MB: ${of(({ tokenMs }) => tokenMs, 1)} ms per token, ${of(({ ratio }) => ratio, 2)} x the limit of ` +
      `${of(({ limitMs }) => limitMs, 1)} ms; prompt ${of(({ promptMs }) => promptMs)} ms`,
    `  ${of(({ readBytes }) => readBytes / 1e6)} MB read per token, disk ${of(({ rate }) => rate / 1e9, 2)} GB/s; ` +
      `${of(({ hitRate }) => 100 * hitRate)} % in memory, ${of(({ ahead }) => 100 * ahead)} % of the others read ahead; ` +
      `computing ${of(({ computeMs }) => computeMs)} ms, waiting ${of(({ diskMs }) => diskMs)} ms`,
    `  fullest control group ${of(({ peakBytes }) => peakBytes / 1e6)} MB, ` +
      `${Math.max(...rounds.map(({ oomKills }) => oomKills))} OOM kills`,
    `  llama.cpp over the mapped file: ${mapped}; ${of(
      ({ theirs, tokenMs }) => (typeof theirs === "string" ? Number.NaN : theirs.tokenMs / tokenMs),
      2,
    )} x`,
  ];
}
