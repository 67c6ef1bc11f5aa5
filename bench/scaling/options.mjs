import { tmpdir } from "node:os";
import { parseArgs } from "node:util";
import { number, numbers } from "../numbers.mjs";

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
    ranks: numbers(given.ranks, 2, 64),
    ...{ latencyMs: number(given.latency, 0.01, 1000), mbit: number(given.mbit, 1, 100_000) },
    ...{ cpu: number(given.cpu, 0.05, 64), rounds: number(given.rounds, 1, 100), tokens: number(given.tokens, 2, 200) },
  };
}
