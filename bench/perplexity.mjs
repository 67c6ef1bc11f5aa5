import { parseArgs } from "node:util";
import { wireNames } from "#stellium/collective/wire";
import { engineOptions } from "./answers/cases.mjs";
import { demo, stories } from "./answers/models.mjs";
import { longText, perplexity, tokensOf, windowTokens } from "./answers/perplexity.mjs";
import { Ranks } from "./answers/ranks.mjs";
import { abortOnSignals } from "./single/interruption.mjs";

/** @typedef {import("./answers/perplexity.mjs").Text} Text */
/** @typedef {import("./answers/models.mjs").ComparedModel} ComparedModel */
/** @typedef {import("#stellium/engine/protocol").EngineOptions} EngineOptions */
/** @typedef {import("#stellium/collective/wire").WireName} WireName */

const head = `| model | windows | one device | with the other KV cache | ranks | f32 | f16 | q8_0 |
| --- | --- | --- | --- | --- | --- | --- | --- |
`;

/**
 * `perplexity`: what each wire type changes of it against one device; and as a yardstick, what one device changes of it
 * when its KV cache is f32 in place of f16, or the other way round.
 * @param {string[]} args
 */
export async function run(args) {
  const options = /** @type {const} */ ({ windows: { type: "string" }, ranks: { type: "string" } });
  const { windows = "120", ranks = "2,4" } = parseArgs({ args, options }).values;
  const sizes = ranks.split(",").map(Number);
  const interruption = abortOnSignals();
  try {
    process.stdout.write(head);
    for (const model of [demo("q8_0"), demo("f16"), demo("q4_0"), ...["f32", "f16", "q8_0", "q4_0"].map(stories)]) {
      const path = await model.file();
      if (path !== undefined) await measureModel(model, path, Number(windows), sizes, interruption.signal);
    }
  } finally {
    interruption.end();
  }
}

/** @param {ComparedModel} model @param {string} path @param {number} windows @param {number[]} sizes @param {AbortSignal} signal */
async function measureModel({ name, type }, path, windows, sizes, signal) {
  const text = tokensOf(path, longText(), windows);
  const options = { ...engineOptions(type), batch: 256, outputs: windowTokens };
  /** @type {EngineOptions["kvType"]} */
  const otherCache = options.kvType === "f32" ? "f16" : "f32";
  const [alone = 0] = await measured(path, [1], options, text, ["f32"], signal);
  const other = await measured(path, [1], { ...options, kvType: otherCache }, text, ["f32"], signal);
  const changes = (/** @type {number[]} */ values) =>
    values.map((value) => `${((value / alone - 1) * 100).toFixed(4)} %`);
  for (const size of sizes) {
    const shared = await measured(path, Array(size).fill(1), options, text, wireNames, signal);
    const cells = [name, text.windows, alone.toFixed(4), ...changes(other), size, ...changes(shared)];
    process.stdout.write(`| ${cells.join(" | ")} |\n`);
  }
}

/**
 * Perplexity with each of the wire types.
 * @param {string} path @param {number[]} shares @param {EngineOptions} options @param {Text} text
 * @param {readonly WireName[]} wires @param {AbortSignal} signal
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
