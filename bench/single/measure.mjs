import { shapeNamed } from "../model/shapes.mjs";
import { coldSamples } from "./cold.mjs";
import { withModel } from "./modelFile.mjs";
import { measureRound } from "./rounds.mjs";
import { figuresOf } from "./summary.mjs";

/**
 * @typedef {object} ModelFigures
 * @property {string} shape
 * @property {string} type
 * @property {number} fileBytes
 * @property {string[]} notes
 * @property {import("../oracleClient.mjs").OracleLoaded["llama"] | undefined} llama
 * @property {string | undefined} device
 * @property {Record<string, number> | undefined} layouts Number of our tensors by layout.
 * @property {import("./summary.mjs").ThreadFigures[]} threads
 */

/**
 * @param {string} shape
 * @param {string} type
 * @param {import("./options.mjs").Options} options
 * @param {AbortSignal} signal
 * @returns {Promise<ModelFigures>}
 */
export function measureModel(shape, type, options, signal) {
  const { vocabulary, experts } = shapeNamed(shape);
  say(`${shape} ${type}: making the model`);
  const { dir, layers } = options;
  return withModel({ shape, type, layers, dir, signal }, async (path, { fileBytes, notes, tensors }) => {
    const expertBytes = tensors.reduce((sum, { name, bytes }) => sum + (/_exps\./.test(name) ? bytes : 0), 0);
    const unreadBytes = experts ? expertBytes * (1 - experts.used / experts.count) : 0;
    const subject = { path, fileBytes, unreadBytes, vocabulary, options, signal };
    return { shape, type, fileBytes, notes, ...(await measure(subject, `${shape} ${type}`)) };
  });
}

/**
 * @param {import("./rounds.mjs").Subject} subject
 * @param {string} name
 */
async function measure(subject, name) {
  say(`${name}: cold loads`);
  const cold = await coldSamples(subject);
  /** @type {import("./summary.mjs").ThreadFigures[]} */
  const figures = [];
  let last;
  for (const threads of subject.options.threads) {
    const rounds = await measureRounds(subject, threads, name);
    figures.push(figuresOf(threads, subject, rounds, cold));
    last = rounds[0];
  }
  const { device, layouts } = last?.ours[0] ?? {};
  return { llama: last?.theirs.llama, device, layouts, threads: figures };
}

/**
 * @param {import("./rounds.mjs").Subject} subject
 * @param {number} threads
 * @param {string} name
 */
async function measureRounds(subject, threads, name) {
  const { rounds } = subject.options;
  /** @type {import("./rounds.mjs").Round[]} */
  const measured = [];
  for (let round = 0; round < rounds; round++) {
    say(`${name}: threads ${threads}, round ${round + 1} of ${rounds}`);
    measured.push(await measureRound(subject, threads, round));
  }
  return measured;
}

/** @param {string} line */
function say(line) {
  process.stderr.write(`${line}\n`);
}
