import { statfsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { compareAnswers } from "./memory/answers.mjs";
import { requireGroups } from "./memory/contained.mjs";
import { compareDesigns } from "./memory/design.mjs";
import { measureRow } from "./memory/limit.mjs";
import { compareWithLlama } from "./memory/llama.mjs";
import { readOptions } from "./memory/options.mjs";
import { designTable, limitLine, limitTable, llamaLine, llamaTable } from "./memory/tables.mjs";
import { abortOnSignals } from "./single/interruption.mjs";
import { machine } from "./single/machine.mjs";
import { withModel } from "./single/modelFile.mjs";

/** @typedef {import("./memory/options.mjs").Options} Options */
/** @typedef {import("./memory/limit.mjs").Row} Row */

const small = "tinyllama-1.1b";
const large = "llama-2-7b";
/** Of both models, and of the slices of one device and of four. */
const neededBytes = 15e9;

/** @type {(Row & { shape: string })[]} */
const capRows = [
  { shape: small, capBytes: 400e6, devices: 1, readBps: 0 },
  { shape: large, capBytes: 1e9, devices: 1, readBps: 0 },
  { shape: large, capBytes: 600e6, devices: 1, readBps: 0 },
  { shape: large, capBytes: 350e6, devices: 4, readBps: 0 },
];

/** @type {(Row & { shape: string })[]} */
const limitRows = [
  ...[600e6, 1e9, 2e9].map((capBytes) => ({ shape: large, capBytes, devices: 1, readBps: 0 })),
  ...[500e6, 200e6].map((readBps) => ({ shape: large, capBytes: 1e9, devices: 1, readBps })),
];

const llamaCaps = [1e9, 2e9, 3e9];
const designCap = 1e9;
const answersCap = 600e6;

/**
 * `memory`: whether devices stay within their caps, and how fast they are then: against the disk's and the memory's own
 * rates, against llama.cpp over a mapped file, and against what TPI-LLM does.
 * @param {string[]} args
 */
export async function run(args) {
  const options = readOptions(args);
  requireGroups();
  requireRoom(options.dir);
  const interruption = abortOnSignals();
  const { signal } = interruption;
  try {
    const results = await measureAll(options, signal);
    if (options.json) await writeFile(options.json, `${JSON.stringify({ machine: machine(), options, ...results })}\n`);
  } finally {
    interruption.end();
  }
}

/** @param {string} dir */
function requireRoom(dir) {
  const { bavail, bsize } = statfsSync(dir);
  if (bavail * bsize < neededBytes) throw new Error(`${dir} has no ${neededBytes / 1e9} GB for models and slices`);
}

/** @param {Options} options @param {AbortSignal} signal */
async function measureAll(options, signal) {
  const rows = [
    ...(options.only.includes("caps") ? capRows : []),
    ...(options.only.includes("limit") ? limitRows : []),
  ];
  const ofShape = (/** @type {string} */ shape) => rows.filter((row) => row.shape === shape);
  const smallRows = ofShape(small);
  const onSmall = () => onModel(small, options, signal, (subject) => measureRows(subject, smallRows, options));
  const figures = smallRows.length > 0 ? await onSmall() : [];
  const rest = await onModel(large, options, signal, async (subject) => ({
    rows: await measureRows(subject, ofShape(large), options),
    answers: options.only.includes("answers") ? await compareAnswers(subject, answersCap, options.threads) : "",
    llama: options.only.includes("llama") ? await compareAll(subject, options) : [],
    designs: options.only.includes("design") ? await compareDesigns(subject, designCap, options) : [],
  }));
  const all = { ...rest, rows: [...figures, ...rest.rows] };
  print(all);
  return all;
}

/**
 * @template T
 * @param {string} shape
 * @param {Options} options
 * @param {AbortSignal} signal
 * @param {(subject: import("./memory/devices.mjs").Subject) => Promise<T>} use
 * @returns {Promise<T>}
 */
function onModel(shape, { dir }, signal, use) {
  process.stderr.write(`${shape} Q4_0: making the model\n`);
  return withModel({ shape, type: "Q4_0", dir, signal }, (path) =>
    use({ shape, path, cacheDir: join(dirname(path), "cache"), signal }),
  );
}

/** @param {import("./memory/devices.mjs").Subject} subject @param {(Row & { shape: string })[]} rows @param {Options} options */
async function measureRows(subject, rows, options) {
  const measured = [];
  for (const { shape, ...row } of rows) {
    const disk = row.readBps ? `, disk ${row.readBps / 1e6} MB/s` : "";
    process.stderr.write(`${shape}: ${row.devices} x ${row.capBytes / 1e6} MB${disk}\n`);
    const figures = await measureRow(subject, row, options);
    process.stderr.write(`  ${limitLine(figures)}\n`);
    measured.push(figures);
  }
  return measured;
}

/** @param {import("./memory/devices.mjs").Subject} subject @param {Options} options */
async function compareAll(subject, options) {
  const compared = [];
  for (const capBytes of llamaCaps) {
    process.stderr.write(`against llama.cpp in ${capBytes / 1e6} MB\n`);
    const comparison = await compareWithLlama(subject, capBytes, options);
    process.stderr.write(`  ${llamaLine(comparison)}\n`);
    compared.push(comparison);
  }
  return compared;
}

/** @param {Awaited<ReturnType<typeof measureAll>>} results */
function print({ rows, answers, llama, designs }) {
  if (rows.length > 0) process.stdout.write(limitTable(rows));
  if (answers) process.stdout.write(`${large} in ${answersCap / 1e6} MB: ${answers}\n`);
  if (llama.length > 0) process.stdout.write(llamaTable(llama));
  if (designs.length > 0) process.stdout.write(designTable(designs));
}
