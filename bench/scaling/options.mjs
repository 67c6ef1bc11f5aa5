import { tmpdir } from "node:os";
import { parseArgs } from "node:util";

const defaults = {
  shape: "llama-2-7b",
  type: "Q4_0",
  ranks: "2",
  latency: "1",
  mbit: "300",
  cpu: "0.8",
  rounds: "3",
  tokens: "24",
  dir: tmpdir(),
};

/**
 * @typedef {object} Options
 * @property {string} shape
 * @property {string} type
 * @property {number[]} ranks Each is compared with one device.
 * @property {number} latencyMs One way.
 * @property {number} mbit
 * @property {number} cpu Cores of each device; devices are spread over the machine's cores.
 * @property {number} rounds
 * @property {number} tokens
 * @property {string} dir Where the model and the slices are made.
 */

/**
 * @param {string[]} args
 * @returns {Options}
 */
export function readOptions(args) {
  const names = Object.keys(defaults);
  const config = Object.fromEntries(names.map((name) => [name, { type: /** @type {const} */ ("string") }]));
  const given = /** @type {typeof defaults} */ ({ ...defaults, ...parseArgs({ args, options: config }).values });
  return {
    ...{ shape: given.shape, type: given.type, dir: given.dir },
    ranks: given.ranks.split(",").map((text) => within(text, 2, 64)),
    ...{ latencyMs: within(given.latency, 0.01, 1000), mbit: within(given.mbit, 1, 100_000) },
    ...{ cpu: within(given.cpu, 0.05, 64), rounds: within(given.rounds, 1, 100), tokens: within(given.tokens, 2, 200) },
  };
}

/** @param {string} text @param {number} least @param {number} most */
function within(text, least, most) {
  const value = Number(text);
  if (value >= least && value <= most) return value;
  throw new Error(`"${text}" is not a number from ${least} to ${most}`);
}
