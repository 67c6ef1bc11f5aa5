// One device that lacks some of what streaming here does, as a child process: a JSON request on stdin, a reply on stdout.
import { constants, openSync, readSync } from "node:fs";
import { json } from "node:stream/consumers";
import { deviceMemory } from "#stellium/cluster/deviceMemory";
import { deviceSlice } from "#stellium/cluster/deviceSlice";
import { ownWeights } from "#stellium/cluster/ownWeights";
import { Engine } from "#stellium/engine/engine";
import { describe } from "#stellium/model/support";
import { allocatePages, viewNative } from "#stellium/native/memory";
import { rankDescription } from "#stellium/plan/rankDescription";
import { planShares } from "#stellium/plan/shares";
import { createSampler, defaultSampling } from "#stellium/serving/sampler";
import { ModelSource } from "#stellium/weights/modelSource";
import { SharedReading } from "#stellium/weights/sharedReading";

/**
 * @typedef {object} Design What is done otherwise than usual.
 * @property {boolean} [unpinned] No block stays in memory.
 * @property {number} [window] How many blocks the window holds.
 * @property {boolean} [plain] Weights come from the model's file, in the plain layout.
 * @property {boolean} [vocabulary] The whole embedding is read for every token.
 *
 * @typedef {Design & { model: string, cacheDir: string, capBytes: number, threads: number, context: number, steps: number }} DesignRequest
 * @typedef {{ stepMs: number[], diskBytes: number, peakRssBytes: number }} DesignReply `diskBytes` for one token.
 */

const pageBytes = 4096;
const mostRead = 4 << 20;
const request = /** @type {DesignRequest} */ (await json(process.stdin));
const reply = await answer(request);
process.stdout.write(JSON.stringify(reply), () => process.exit(0));

/** @param {DesignRequest} request @returns {Promise<DesignReply>} */
async function answer(request) {
  const source = await ModelSource.open(request.model);
  const { engine, streamedBytes } = await start(source, request);
  const embedding = source.model.tensors.get("token_embd.weight");
  const { offset, bytes } = /** @type {{ offset: number, bytes: number }} */ (embedding);
  const readVocabulary = request.vocabulary ? reading(request.model, offset, bytes) : () => {};
  const sampler = createSampler({ ...defaultSampling, temperature: 0 });
  /** @type {number[]} */
  const stepMs = [];
  let token = 3;
  for (let position = 0; position < request.steps; position++) {
    const started = performance.now();
    readVocabulary();
    token = sampler.sample(await engine.step({ tokens: [token], position, outputs: 1 }));
    stepMs.push(performance.now() - started);
  }
  await engine[Symbol.asyncDispose]();
  await source[Symbol.asyncDispose]();
  const diskBytes = streamedBytes + (request.vocabulary ? bytes : 0);
  return { stepMs, diskBytes, peakRssBytes: process.resourceUsage().maxRSS * 1024 };
}

/** @param {ModelSource} source @param {DesignRequest} request */
async function start(source, request) {
  const { capBytes, threads, context, cacheDir } = request;
  const whole = describe(source.model);
  const description = rankDescription(whole, planShares(whole, [1]), 0);
  const shared = { context, batch: 32, kvType: /** @type {const} */ ("f16"), slots: 1, storedCells: 0 };
  const { rooms } = deviceSlice(description, { hash: "0".repeat(64), name: "" });
  const cap = { bytes: capBytes, from: /** @type {const} */ ("asked") };
  const demand = {
    description,
    rooms,
    cap,
    windowBlocks: request.window,
    ranks: 1,
    wire: /** @type {const} */ ("f16"),
  };
  const reading = new SharedReading(await source.files(false), { readers: 1, shared: false });
  reading.open();
  const { origin, memory } = await ownWeights({ source, reading }, demand, shared, {
    cacheDir,
    noSlice: request.plain,
  });
  if (origin.kind === "gguf") throw new Error("all weights fit: there is nothing to stream");
  const placement = request.unpinned ? unpinned(memory, request.window) : origin.placement;
  const engine = await Engine.start({
    ...{ description, origin: { ...origin, placement } },
    options: { ...shared, threads, poll: 0, outputs: 1, graphs: "whole" },
  });
  return { engine, streamedBytes: memory.weightBytes - engine.statistics.pinnedBytes };
}

/** @param {ReturnType<typeof deviceMemory>} memory @param {number | undefined} window */
function unpinned({ blockBytes }, window = 3) {
  const ringOf = (/** @type {number} */ first) =>
    Array.from({ length: window }, (_, i) => blockBytes[(first + i) % blockBytes.length] ?? 0);
  const rings = blockBytes.map((_, first) => ringOf(first).reduce((sum, bytes) => sum + bytes, 0));
  return { pinned: blockBytes.map((bytes) => bytes === 0), windowBytes: Math.max(...rings), cached: false };
}

/** Reads a part of a file, past the cache. @param {string} path @param {number} offset @param {number} bytes */
function reading(path, offset, bytes) {
  const file = openSync(path, constants.O_RDONLY | constants.O_DIRECT);
  const room = viewNative(allocatePages(mostRead).address, mostRead);
  const first = offset - (offset % pageBytes);
  return () => {
    for (let at = first; at < offset + bytes; at += mostRead) readSync(file, room, 0, mostRead, at);
  };
}
