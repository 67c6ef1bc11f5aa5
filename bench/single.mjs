import { planModel } from "./generateModel.mjs";
import { abortOnSignals } from "./single/interruption.mjs";
import { measureModel } from "./single/measure.mjs";
import { readOptions } from "./single/options.mjs";
import { ratiosOf } from "./single/ratios.mjs";
import { printRatios, printTable } from "./single/report.mjs";
import { saveModel } from "./single/results.mjs";
import { batch, context } from "./single/rounds.mjs";

/**
 * `single`: compares one device with llama.cpp on models of random weights, made one at a time and removed again.
 * @param {string[]} args
 */
export async function run(args) {
  const options = readOptions(args);
  // Throws for a name that does not exist before the first model takes its time.
  for (const shape of options.shapes) for (const type of options.types) planModel({ shape, type });
  const interruption = abortOnSignals();
  try {
    for (const shape of options.shapes)
      for (const type of options.types) {
        const model = await compare(shape, type, options, interruption.signal);
        if (options.json) saveModel(options.json, { ...model, settings: settingsOf(options) });
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
 */
async function compare(shape, type, options, signal) {
  const figures = await measureModel(shape, type, options, signal);
  const ratios = ratiosOf(figures);
  printTable(figures);
  printRatios(figures, ratios);
  return { ...figures, ratios };
}

/** @param {import("./single/options.mjs").Options} options */
function settingsOf({ rounds, steps, prompt, polls }) {
  return { rounds, steps, prompt, polls, context, batch, kv: "f16" };
}
