import { tmpdir } from "node:os";
import { parseArgs } from "node:util";
import { number, numbers } from "../numbers.mjs";

const defaults = {
  shape: "qwen3-0.6b",
  type: "Q4_0",
  ranks: "2",
  latency: "1",
  mbit: "300,100",
  tokens: "512",
  wire: "f16",
  rounds: "5",
  cpu: "1",
  dir: tmpdir(),
};

/**
 * @typedef {object} Options
 * @property {string} shape
 * @property {string} type
 * @property {number} ranks
 * @property {number} latencyMs One way.
 * @property {number[]} mbit
 * @property {number} tokens
 * @property {string} wire
 * @property {number} rounds
 * @property {number} cpu Cores of each device; devices are spread over the machine's cores.
 * @property {string} dir Where the model is made.
 */

/** @param {string[]} args @returns {Options} */
export function readOptions(args) {
  const names = Object.keys(defaults);
  const config = Object.fromEntries(names.map((name) => [name, { type: /** @type {const} */ ("string") }]));
  const given = /** @type {typeof defaults} */ ({ ...defaults, ...parseArgs({ args, options: config }).values });
  return {
    ...{ shape: given.shape, type: given.type, dir: given.dir, wire: given.wire },
    ...{ ranks: number(given.ranks, 2, 64), latencyMs: number(given.latency, 0.01, 1000) },
    mbit: numbers(given.mbit, 1, 100_000),
    ...{ tokens: number(given.tokens, 64, 65_536), rounds: number(given.rounds, 1, 100) },
    cpu: number(given.cpu, 0.05, 64),
  };
}
