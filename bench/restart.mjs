import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { TextModel } from "#stellium/serving/textModel";
import { generateModel } from "./generateModel.mjs";
import { abortOnSignals } from "./single/interruption.mjs";

/**
 * @typedef {object} Start
 * @property {string} what
 * @property {number} seconds Until the first step can be taken.
 * @property {number} controlBytes That the coordinator has sent and received.
 * @property {number} linkBytes That all ranks have sent each other, to measure their links too.
 */

const options = /** @type {const} */ ({
  shape: { type: "string", default: "llama-2-7b" },
  type: { type: "string", default: "Q4_0" },
  layers: { type: "string" },
  devices: { type: "string", default: "4" },
  dir: { type: "string", default: tmpdir() },
});

/**
 * `restart`: starts local devices twice on a model of random weights. The second time, all slices are on their disks.
 * @param {string[]} args
 */
export async function run(args) {
  const { shape, type, layers, devices, dir } = parseArgs({ args, options }).values;
  const folder = mkdtempSync(join(dir, "stellium-bench-"));
  const interruption = abortOnSignals();
  try {
    const path = join(folder, "model.gguf");
    await generateModel({ path, shape, type, layers: layers === undefined ? undefined : Number(layers) });
    const cacheDir = join(folder, "cache");
    const measure = (/** @type {string} */ what, /** @type {number} */ count) =>
      measureStart(what, path, cacheDir, count, interruption.signal);
    const alone = await measure("one device", 1);
    const starts = [await measure("first start", Number(devices)), await measure("second start", Number(devices))];
    print(`${shape} ${type} on ${devices} devices`, [alone, ...starts]);
  } finally {
    interruption.end();
    rmSync(folder, { recursive: true });
  }
}

/**
 * @param {string} what @param {string} path @param {string} cacheDir @param {number} devices @param {AbortSignal} signal
 * @returns {Promise<Start>}
 */
async function measureStart(what, path, cacheDir, devices, signal) {
  const cluster = { workers: devices - 1, local: true, cacheDir };
  const started = performance.now();
  const model = await TextModel.open(path, { context: 512, cluster: devices > 1 ? cluster : undefined, signal });
  try {
    const seconds = (performance.now() - started) / 1000;
    const { sent, received } = model.coordinator.controlTraffic;
    const figures = [model.coordinator.engine.statistics, ...(await model.coordinator.workers()).map((w) => w.figures)];
    const linkBytes = figures.reduce((sum, each) => sum + (each["bytesSent"] ?? 0) + (each["openingBytes"] ?? 0), 0);
    return { what, seconds, controlBytes: sent + received, linkBytes };
  } finally {
    await model[Symbol.asyncDispose]();
  }
}

/** @param {string} title @param {Start[]} starts */
function print(title, starts) {
  const lines = starts.map(
    ({ what, seconds, controlBytes, linkBytes }) =>
      `| ${what} | ${seconds.toFixed(1)} | ${controlBytes} | ${linkBytes} |`,
  );
  const head = ["| start | s | control and slices, bytes | links, bytes |", "| --- | --- | --- | --- |"];
  process.stdout.write(`${[title, "", ...head, ...lines].join("\n")}\n`);
}
