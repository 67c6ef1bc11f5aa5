// Stellium as a child process: one JSON request on stdin, one JSON reply on stdout.
import { json } from "node:stream/consumers";
import { describe } from "#stellium/engine/architectures/support";
import { Engine } from "#stellium/engine/engine";
import { kvCacheBytes } from "#stellium/engine/kvCache";
import { rankDescription } from "#stellium/plan/rankDescription";
import { planShares } from "#stellium/plan/shares";
import { createSampler, defaultSampling } from "#stellium/serving/sampler";
import { readGguf } from "#stellium/weights/gguf/reader";
import { diskBytesSoFar } from "./single/diskBytes.mjs";

/**
 * @typedef {object} EngineRequest
 * @property {string} model Path of a GGUF file.
 * @property {number} threads
 * @property {number} poll
 * @property {number} context
 * @property {number} batch
 * @property {number[]} prompt
 * @property {number} prefills How often to take the prompt; 0 loads only.
 * @property {number} steps Tokens after the last of them.
 */

/**
 * @typedef {object} EngineReply
 * @property {number} loadMs From the path to an engine that waits for its first step.
 * @property {number} loadDiskBytes
 * @property {number[]} prefillMs Up to the logits of the last token.
 * @property {number[]} tokenMs A step and the choice of a token.
 * @property {number} weightBytes
 * @property {number} kvBytes
 * @property {number} computeBytes
 * @property {number} peakRssBytes
 * @property {string} device
 * @property {Record<string, number>} layouts
 */

const request = /** @type {EngineRequest} */ (await json(process.stdin));
const reply = await answer(request);
process.stdout.write(JSON.stringify(reply), () => process.exit(0));

/** @param {EngineRequest} request @returns {Promise<EngineReply>} */
async function answer(request) {
  const { engine, ...loading } = await load(request);
  try {
    const { logits, prefillMs } = await prefill(engine, request);
    const tokenMs = logits ? await decode(engine, request, logits) : [];
    const { weightBytes, computeBytes, ready } = engine;
    const memory = { weightBytes, computeBytes, kvBytes: kvBytesOf(engine), peakRssBytes: peakRssBytes() };
    return {
      ...loading,
      prefillMs,
      tokenMs,
      ...memory,
      device: ready.device,
      layouts: Object.fromEntries(ready.layouts),
    };
  } finally {
    await engine[Symbol.asyncDispose]();
  }
}

/** @param {EngineRequest} request */
async function load({ model, threads, poll, context, batch }) {
  const before = diskBytesSoFar();
  const started = performance.now();
  const whole = await describe(await readGguf(model));
  const description = rankDescription(whole, planShares(whole, [1]), 0);
  const options = { threads, poll, context, batch, kvType: /** @type {const} */ ("f16"), outputs: 1 };
  const engine = await Engine.start({ description, options: { ...options, graphs: "whole" } });
  return { engine, loadMs: performance.now() - started, loadDiskBytes: diskBytesSoFar() - before };
}

/** @param {Engine} engine @param {EngineRequest} request */
async function prefill(engine, { prompt, prefills }) {
  /** @type {number[]} */
  const prefillMs = [];
  let logits;
  for (let turn = 0; turn < prefills; turn++) {
    const started = performance.now();
    logits = await engine.step({ tokens: prompt, position: 0, outputs: 1 });
    prefillMs.push(performance.now() - started);
  }
  return { logits, prefillMs };
}

/** @param {Engine} engine @param {EngineRequest} request @param {Float32Array} first */
async function decode(engine, { prompt, steps }, first) {
  const sampler = createSampler({ ...defaultSampling, temperature: 0 });
  let token = sampler.sample(first);
  /** @type {number[]} */
  const tokenMs = [];
  for (let position = prompt.length; position < prompt.length + steps; position++) {
    const started = performance.now();
    token = sampler.sample(await engine.step({ tokens: [token], position, outputs: 1 }));
    sampler.accept(token);
    tokenMs.push(performance.now() - started);
  }
  return tokenMs;
}

/** @param {Engine} engine */
function kvBytesOf({ description, options }) {
  return kvCacheBytes(description.hyperparameters, options.kvType, options.context);
}

function peakRssBytes() {
  return process.resourceUsage().maxRSS * 1024;
}
