import { tmpdir } from "node:os";
import { parseArgs } from "node:util";
import { threadsAmong } from "#stellium/cluster/threads";
import { whole } from "../numbers.mjs";

const parts = /** @type {const} */ (["caps", "limit", "answers", "llama", "design"]);
/** @typedef {typeof parts[number]} Part */

const settings = /** @type {const} */ ({
  only: { type: "string", default: parts.join(",") },
  rounds: { type: "string", default: "3" },
  tokens: { type: "string", default: "12" },
  threads: { type: "string", default: String(threadsAmong(1)) },
  dir: { type: "string", default: tmpdir() },
  json: { type: "string" },
});

/**
 * @typedef {object} Options
 * @property {Part[]} only
 * @property {number} rounds
 * @property {number} tokens Of each run.
 * @property {number} threads Of all devices of a run together.
 * @property {string} dir Where models and slices are made.
 * @property {string | undefined} json
 */

/** @param {string[]} args @returns {Options} */
export function readOptions(args) {
  const { only, rounds, tokens, threads, dir, json } = parseArgs({ args, options: settings }).values;
  return {
    only: only.split(",").map(partNamed),
    ...{ rounds: whole(rounds, 1, 100), tokens: whole(tokens, 3, 200), threads: whole(threads, 1, 1024), dir, json },
  };
}

/** @param {string} name */
function partNamed(name) {
  const part = parts.find((known) => known === name);
  if (part === undefined) throw new Error(`"${name}" is none of ${parts.join(", ")}`);
  return part;
}
