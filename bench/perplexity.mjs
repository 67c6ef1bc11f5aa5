import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { wireNames } from "#stellium/collective/wire";
import { engineOptions } from "./answers/cases.mjs";
import { demo, stories } from "./answers/models.mjs";
import { excerptFor, perplexity, windowTokens } from "./answers/perplexity.mjs";
import { Ranks } from "./answers/ranks.mjs";
import { abortOnSignals } from "./single/interruption.mjs";

/** @typedef {import("./answers/perplexity.mjs").Text} Text */
/** @typedef {import("./answers/models.mjs").ComparedModel} ComparedModel */

const folder = fileURLToPath(new URL("../../shared/data/stories260K/", import.meta.url));
const sizes = [2, 4, 8];

/** `perplexity`: what each wire type changes of it, among 2, 4 and 8 ranks, against one device. */
export async function run() {
  const interruption = abortOnSignals();
  try {
    process.stdout.write(
      "| model | text | one device | ranks | f32 | f16 | q8_0 |\n| --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for (const model of [demo("q8_0"), demo("f16"), demo("q4_0"), ...["f32", "f16", "q8_0", "q4_0"].map(stories)]) {
      const path = await model.file();
      if (path !== undefined) await measureModel(model, path, interruption.signal);
    }
  } finally {
    interruption.end();
  }
}

/** @param {ComparedModel} model @param {string} path @param {AbortSignal} signal */
async function measureModel({ name, type }, path, signal) {
  const options = { ...engineOptions(type), batch: 256, outputs: windowTokens };
  for (const [title, text] of textsFor(name, path)) {
    const alone = await measured(path, [1], options, text, ["f32"], signal);
    for (const size of sizes) {
      const shared = await measured(path, Array(size).fill(1), options, text, wireNames, signal);
      const changes = shared.map((value) => `${((value / (alone[0] ?? 0) - 1) * 100).toFixed(4)} %`);
      process.stdout.write(`| ${[name, title, alone[0]?.toFixed(4), size, ...changes].join(" | ")} |\n`);
    }
  }
}

/**
 * Perplexity with each of the wire types.
 * @param {string} path @param {number[]} shares @param {import("#stellium/engine/protocol").EngineOptions} options
 * @param {Text} text @param {readonly import("#stellium/collective/wire").WireName[]} wires @param {AbortSignal} signal
 */
async function measured(path, shares, options, text, wires, signal) {
  const ranks = await Ranks.start(path, shares, options);
  try {
    /** @type {number[]} */
    const values = [];
    for (const wire of wires) {
      signal.throwIfAborted();
      if (shares.length > 1) await ranks.link({ wire, collective: "exchange" });
      values.push(await perplexity(ranks.first, text));
    }
    return values;
  } finally {
    await ranks[Symbol.asyncDispose]();
  }
}

/**
 * @param {string} name @param {string} path
 * @returns {[title: string, text: Text][]}
 */
function textsFor(name, path) {
  if (!name.startsWith("stories")) return [["shakespeare", excerptFor(path, 10)]];
  /** @type {Record<string, { tokens: number[], windowNll: number[] }>} */
  const references = JSON.parse(readFileSync(join(folder, "stories260K.perplexity-f64.json"), "utf8"));
  return Object.entries(references).map(([title, { tokens, windowNll }]) => [
    title,
    { tokens, bos: 1, windows: windowNll.length },
  ]);
}
