import { tmpdir } from "node:os";
import { parseArgs } from "node:util";
import { whole } from "../numbers.mjs";

const defaults = {
  shapes: "tinyllama-1.1b,llama-2-7b",
  types: "Q4_0,Q4_K",
  threads: "1,2",
  rounds: "3",
  steps: "64",
  prompt: "512",
  poll: "50",
};

/**
 * @typedef {object} Options
 * @property {string[]} shapes
 * @property {string[]} types
 * @property {number | undefined} layers Of each model; all that the shape has if undefined.
 * @property {number[]} threads
 * @property {number} rounds
 * @property {number} steps Tokens of each way to decode.
 * @property {number} prompt Tokens of a prefill.
 * @property {number[]} polls The first is the one that is compared with llama.cpp.
 * @property {string} dir Where models are made.
 * @property {string | undefined} json
 */

/**
 * @param {string[]} args
 * @returns {Options}
 */
export function readOptions(args) {
  const names = [...Object.keys(defaults), "layers", "dir", "json"];
  const config = Object.fromEntries(names.map((name) => [name, { type: /** @type {const} */ ("string") }]));
  const values = { dir: tmpdir(), ...defaults, ...parseArgs({ args, options: config }).values };
  const { shapes, types, threads, rounds, steps, prompt, poll, dir } = /** @type {typeof values} */ (values);
  const { json, layers } = /** @type {{ json?: string, layers?: string }} */ (values);
  return {
    ...{ shapes: list(shapes), types: list(types), threads: list(threads).map((text) => whole(text, 1, 1024)) },
    layers: layers === undefined ? undefined : whole(layers, 1, 1000),
    ...{ rounds: whole(rounds, 1, 1000), steps: whole(steps, 2, 160), prompt: whole(prompt, 2, 512) },
    ...{ polls: pollsOf(poll), dir, json },
  };
}

/** The usual level first, where it is among them. @param {string} text */
function pollsOf(text) {
  const polls = list(text).map((level) => whole(level, 0, 100));
  return polls.includes(50) ? [50, ...polls.filter((level) => level !== 50)] : polls;
}

/** @param {string} text */
function list(text) {
  const items = text.split(",").filter(Boolean);
  if (!items.length) throw new Error("a list is empty");
  return items;
}
