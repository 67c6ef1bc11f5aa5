import { writeFile } from "node:fs/promises";
import { planModel } from "./generateModel.mjs";
import { abortOnSignals } from "./single/interruption.mjs";
import { machine } from "./single/machine.mjs";
import { measureModel } from "./single/measure.mjs";
import { readOptions } from "./single/options.mjs";
import { ratiosOf } from "./single/ratios.mjs";
import { printRatios, printTable } from "./single/report.mjs";
import { batch, context } from "./single/rounds.mjs";

/** @typedef {import("./single/measure.mjs").ModelFigures & { ratios: import("./single/ratios.mjs").Ratio[] }} ModelResult */

/**
 * `single`: compares one device with llama.cpp on models of random weights, made one at a time and removed again.
 * @param {string[]} args
 */
export async function run(args) {
  const options = readOptions(args);
  // Throws for a name that does not exist before the first model takes its time.
  for (const shape of options.shapes) for (const type of options.types) planModel({ shape, type });
  const interruption = abortOnSignals();
  /** @type {ModelResult[]} */
  const models = [];
  try {
    for (const shape of options.shapes)
      for (const type of options.types) {
        models.push(await compare(shape, type, options, interruption.signal));
        if (options.json) await save(options.json, options, models);
      }
  } finally {
    interruption.end();
  }
}

/**
 * @param {string} shape
 * @param {string} type
 * @param {import("./single/options.mjs").Options} options
 * @param {AbortSignal} signal
 * @returns {Promise<ModelResult>}
 */
async function compare(shape, type, options, signal) {
  const figures = await measureModel(shape, type, options, signal);
  const ratios = ratiosOf(figures);
  printTable(figures);
  printRatios(figures, ratios);
  return { ...figures, ratios };
}

/**
 * After each model, so that an interrupted run leaves what it has.
 * @param {string} path
 * @param {import("./single/options.mjs").Options} options
 * @param {ModelResult[]} models
 */
async function save(path, { rounds, steps, prompt, polls }, models) {
  const settings = { rounds, steps, prompt, polls, context, batch, kv: "f16" };
  const result = { machine: machine(), llama: models[0]?.llama, settings, models };
  await writeFile(path, `${JSON.stringify(result, null, 2)}\n`);
}
