import { askOracle } from "../oracleClient.mjs";
import { generate } from "./devices.mjs";

/** @typedef {import("./devices.mjs").Subject} Subject */
/** @typedef {import("../oracleClient.mjs").GreedyResult} GreedyResult */

const tokens = 32;
/** What a flip may cost where two tokens are nearly as likely. */
const nearTie = 1e-2;

/**
 * Has a device under a cap and llama.cpp without one write the likeliest tokens. Returns in words how far they agree;
 * throws where Stellium takes one that is less likely than by a near-tie.
 * @param {Subject} subject
 * @param {number} capBytes
 * @param {number} threads
 */
export async function compareAnswers(subject, capBytes, threads) {
  const run = { capBytes, devices: 1, threads, readBps: 0, prompt: "the", tokens };
  const { answer } = await generate(subject, run);
  const task = /** @type {const} */ ({ kind: "greedy", tokens: answer.prompt_tokens, count: tokens });
  const { results } = await askOracle(
    { model: subject.path, threads, contextSize: 256, tasks: [task] },
    subject.signal,
  );
  const [theirs] = /** @type {[GreedyResult]} */ (results);
  const equal = answer.tokens.findIndex((token, i) => token !== theirs.tokens[i]);
  if (equal < 0) return `all ${tokens} tokens are llama.cpp's`;
  const [best, own] = [theirs.top[equal]?.[0], theirs.top[equal]?.find(([token]) => token === answer.tokens[equal])];
  const cost = (best?.[1] ?? 0) - (own?.[1] ?? Number.NEGATIVE_INFINITY);
  const difference = `${equal} tokens are llama.cpp's; the next is ${cost.toFixed(4)} less likely by its logits`;
  if (cost > nearTie) throw new Error(difference);
  return difference;
}
