import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { collectiveNames } from "#stellium/collective/collective";
import { dealNames, deals, engineOptions, prompt, sizes } from "./answers/cases.mjs";
import { follow, write } from "./answers/compare.mjs";
import { allModels } from "./answers/models.mjs";
import { Ranks } from "./answers/ranks.mjs";
import { abortOnSignals } from "./single/interruption.mjs";

/** @typedef {import("./answers/compare.mjs").Comparison} Comparison */
/** @typedef {import("./answers/compare.mjs").Written} Written */
/** @typedef {import("./answers/models.mjs").ComparedModel} ComparedModel */
/** @typedef {import("./answers/cases.mjs").Size} Size */

/**
 * @typedef {object} Row What came of one model, over all ways to share it out and to add up.
 * @property {string} model
 * @property {number} cases
 * @property {number} positions
 * @property {Comparison} ranks The worst of all cases; flips of all of them.
 * @property {Comparison} alone One device against itself, which takes the prompt token by token.
 */

/**
 * `answers`: every model on 2 to 8 ranks with every collective against one device, position by position.
 * @param {string[]} args
 */
export async function run(args) {
  const options = /** @type {const} */ ({
    only: { type: "string" },
    steps: { type: "string" },
    json: { type: "string" },
  });
  const { only = "", steps = "32", json } = parseArgs({ args, options }).values;
  const folder = mkdtempSync(join(tmpdir(), "stellium-bench-"));
  const interruption = abortOnSignals();
  /** @type {Row[]} */
  const rows = [];
  try {
    process.stdout.write(head);
    for (const model of allModels(folder).filter(({ name }) => name.toLowerCase().includes(only.toLowerCase()))) {
      const row = await compareModel(model, Number(steps), interruption.signal);
      if (row === undefined) continue;
      process.stdout.write(line(row));
      rows.push(row);
      if (json) writeFileSync(json, `${JSON.stringify(rows, null, 2)}\n`);
    }
  } finally {
    interruption.end();
    rmSync(folder, { recursive: true });
  }
}

/**
 * @param {ComparedModel} model @param {number} steps @param {AbortSignal} signal
 * @returns {Promise<Row | undefined>} undefined where the model is not there
 */
async function compareModel(model, steps, signal) {
  const path = await model.file();
  if (path === undefined) return undefined;
  const options = engineOptions(model.type);
  const { written, alone } = await writeAlone(path, steps, options);
  /** @type {Comparison[]} */
  const found = [];
  for (const size of sizes) {
    for (const deal of dealNames) found.push(...(await compareDeal(path, deals[deal][size], options, written, signal)));
  }
  return { model: model.name, cases: found.length, positions: steps, ranks: worst(found), alone };
}

/** @param {string} path @param {number} steps @param {import("#stellium/engine/protocol").EngineOptions} options */
async function writeAlone(path, steps, options) {
  const one = await Ranks.start(path, [1], options);
  try {
    const written = await write(one.first, prompt, steps);
    return { written, alone: await follow(one.first, written, 1) };
  } finally {
    await one[Symbol.asyncDispose]();
  }
}

/**
 * @param {string} path @param {readonly number[]} shares @param {import("#stellium/engine/protocol").EngineOptions} options
 * @param {Written} written @param {AbortSignal} signal
 */
async function compareDeal(path, shares, options, written, signal) {
  const ranks = await Ranks.start(path, shares, options);
  try {
    /** @type {Comparison[]} */
    const found = [];
    for (const collective of collectiveNames) {
      signal.throwIfAborted();
      await ranks.link({ collective, wire: "f32" });
      found.push(await follow(ranks.first, written));
    }
    return found;
  } finally {
    await ranks[Symbol.asyncDispose]();
  }
}

/** @param {Comparison[]} found @returns {Comparison} */
function worst(found) {
  const most = (/** @type {"atFlips" | "written" | "any"} */ of) => Math.max(...found.map((each) => each[of]));
  const flips = found.flatMap((each) => each.flips);
  return { flips, atFlips: most("atFlips"), written: most("written"), any: most("any") };
}

const head = `| model | cases | flips of | at flips | written token | any token | one device: flips | written token |
| --- | --- | --- | --- | --- | --- | --- | --- |
`;

/** @param {Row} row */
function line({ model, cases, positions, ranks, alone }) {
  const cells = [
    model,
    cases,
    `${ranks.flips.length} of ${cases * positions}`,
    ...[ranks.atFlips, ranks.written, ranks.any].map(shown),
    alone.flips.length,
    shown(alone.written),
  ];
  return `| ${cells.join(" | ")} |\n`;
}

/** @param {number} difference */
function shown(difference) {
  return difference === 0 ? "0" : difference.toExponential(1);
}
