import { tmpdir } from "node:os";
import { parseArgs } from "node:util";
import { whole } from "../numbers.mjs";

const defaults = {
  ...{ shape: "tinyllama-1.1b", type: "Q4_0", threads: "2", streams: "8" },
  ...{ tokens: "48", prefix: "1000", rounds: "3", dir: tmpdir() },
};

/**
 * @typedef {object} Options
 * @property {string} shape
 * @property {string} type
 * @property {number} threads
 * @property {number} streams At the same time, compared with one.
 * @property {number} tokens Of each stream.
 * @property {number} prefix Tokens that a prompt begins with, and that are cached or not.
 * @property {number} rounds
 * @property {string} dir Where the model is made.
 * @property {string | undefined} json
 */

/** @param {string[]} args @returns {Options} */
export function readOptions(args) {
  const names = [...Object.keys(defaults), "json"];
  const config = Object.fromEntries(names.map((name) => [name, { type: /** @type {const} */ ("string") }]));
  const { values } = parseArgs({ args, options: config });
  const given = /** @type {typeof defaults} */ ({ ...defaults, ...values });
  return {
    ...{ shape: given.shape, type: given.type, dir: given.dir, json: /** @type {{ json?: string }} */ (values).json },
    ...{
      threads: whole(given.threads, 1, 512),
      streams: whole(given.streams, 1, 64),
      tokens: whole(given.tokens, 1, 512),
    },
    ...{ prefix: whole(given.prefix, 1, 4000), rounds: whole(given.rounds, 1, 100) },
  };
}
