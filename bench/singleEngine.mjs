// Stellium as a child process, which is asked line by line: to load first, then what to compute.

import { plannedKvBytes } from "#stellium/cluster/engineOptions";
import { Engine } from "#stellium/engine/engine";
import { describe } from "#stellium/model/support";
import { rankDescription } from "#stellium/plan/rankDescription";
import { planShares } from "#stellium/plan/shares";
import { createSampler, defaultSampling } from "#stellium/serving/sampler";
import { readGguf } from "#stellium/weights/gguf/reader";
import { answerLines } from "./conversation.mjs";
import { diskBytesSoFar } from "./single/diskBytes.mjs";

/**
 * @typedef {object} EngineRequest
 * @property {string} model Path of a GGUF file.
 * @property {number} threads
 * @property {number} poll
 * @property {number} context
 * @property {number} batch
 *
 * @typedef {object} EngineLoaded
 * @property {number} loadMs From the path to an engine that waits for its first step.
 * @property {number} loadDiskBytes
 * @property {number} weightBytes
 * @property {number} kvBytes
 * @property {string} device
 * @property {Record<string, number>} layouts
 *
 * @typedef {{ kind: "prefill", tokens: number[] }} PrefillTask Answered by milliseconds to the logits of the last token.
 * @typedef {{ kind: "decode", steps: number }} DecodeTask Goes on behind that; milliseconds of each step and its choice.
 * @typedef {{ kind: "memory" }} MemoryTask
 * @typedef {{ computeBytes: number, peakRssBytes: number }} EngineMemory
 */

const sampler = createSampler({ ...defaultSampling, temperature: 0 });
/** @type {Engine | undefined} */
let engine;
let token = 0;
let position = 0;

await answerLines(async (question) => {
  if (engine !== undefined) return await perform(engine, question);
  const { engine: loaded, ...about } = await load(question);
  engine = loaded;
  return about;
});
await engine?.[Symbol.asyncDispose]();

/** @param {EngineRequest} request @returns {Promise<EngineLoaded & { engine: Engine }>} */
async function load({ model, threads, poll, context, batch }) {
  const before = diskBytesSoFar();
  const started = performance.now();
  const whole = describe(await readGguf(model));
  const description = rankDescription(whole, planShares(whole, [1]), 0);
  const options = { threads, poll, context, batch, kvType: /** @type {const} */ ("f16"), outputs: 1 };
  const engine = await Engine.start({ description, options: { ...options, graphs: "whole" } });
  const loading = { loadMs: performance.now() - started, loadDiskBytes: diskBytesSoFar() - before };
  const { weightBytes, ready } = engine;
  const kvBytes = plannedKvBytes(description, { ...options, slots: 1, storedCells: 0 });
  return { engine, ...loading, weightBytes, kvBytes, device: ready.device, layouts: Object.fromEntries(ready.layouts) };
}

/** @param {Engine} engine @param {PrefillTask | DecodeTask | MemoryTask} task */
async function perform(engine, task) {
  if (task.kind === "prefill") return await prefill(engine, task.tokens);
  if (task.kind === "memory") return memory(engine);
  /** @type {number[]} */
  const tokenMs = [];
  for (let step = 0; step < task.steps; step++) tokenMs.push(await decode(engine));
  return tokenMs;
}

/** @param {Engine} engine @param {number[]} tokens */
async function prefill(engine, tokens) {
  const started = performance.now();
  const logits = await engine.step({ tokens, position: 0, outputs: 1 });
  const ms = performance.now() - started;
  token = sampler.sample(logits);
  position = tokens.length;
  return ms;
}

/** @param {Engine} engine */
async function decode(engine) {
  const started = performance.now();
  token = sampler.sample(await engine.step({ tokens: [token], position: position++, outputs: 1 }));
  sampler.accept(token);
  return performance.now() - started;
}

/** @param {Engine} engine @returns {EngineMemory} */
function memory({ computeBytes }) {
  return { computeBytes, peakRssBytes: process.resourceUsage().maxRSS * 1024 };
}
