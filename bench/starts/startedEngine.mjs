// One start of an engine, as a child process: a JSON request on stdin, a reply on stdout.
import { json } from "node:stream/consumers";
import { deviceSlice, storedSlice } from "#stellium/cluster/deviceSlice";
import { outlineOf } from "#stellium/cluster/rankPlan";
import { Engine } from "#stellium/engine/engine";
import { describe } from "#stellium/model/support";
import { rankDescription } from "#stellium/plan/rankDescription";
import { planShares } from "#stellium/plan/shares";
import { createSampler, defaultSampling } from "#stellium/serving/sampler";
import { ModelSource } from "#stellium/weights/modelSource";
import { SharedReading } from "#stellium/weights/sharedReading";
import { sliceMap } from "#stellium/weights/window/sliceMap";

/**
 * @typedef {"converted" | "slice" | "direct" | "plain"} WeightsFrom `converted`: the GGUF file, as a start does it;
 * `slice`: a slice on the disk; `direct`: the same, read past the page cache; `plain`: the GGUF file without converting anything.
 * @typedef {{ model: string, cacheDir: string, from: WeightsFrom, threads: number, ranks: number }} StartRequest `ranks`: how many
 * devices share the model equally; this is the first of them.
 * @typedef {{ readyMs: number, cpuMs: number, token?: number, slicePath?: string }} StartReply Both since the process
 * started, until the engine waits for its first step; and the token that follows on token 1, where it is the only rank.
 */

const request = /** @type {StartRequest} */ (await json(process.stdin));
const reply = await start(request);
process.stdout.write(JSON.stringify(reply), () => process.exit(0));

/** @param {StartRequest} request @returns {Promise<StartReply>} */
async function start({ model, cacheDir, from, threads, ranks }) {
  const source = await ModelSource.open(model);
  const whole = await describe(source.model);
  const description = rankDescription(whole, planShares(whole, Array(ranks).fill(1)), 0);
  const slicePath = from === "slice" || from === "direct" ? await slice(source, description, cacheDir) : undefined;
  const placement = { pinned: [], windowBytes: 0, cached: from !== "direct" };
  const engine = await Engine.start({
    description,
    origin: await originOf(from, description.files, slicePath, placement),
    options: { threads, poll: 50, context: 256, batch: 32, kvType: "f16", outputs: 1, graphs: "whole" },
  });
  const { user, system } = process.cpuUsage();
  const figures = { readyMs: performance.now(), cpuMs: (user + system) / 1000 };
  const token = ranks === 1 ? await nextToken(engine) : undefined;
  await engine[Symbol.asyncDispose]();
  await source[Symbol.asyncDispose]();
  return { ...figures, ...(token !== undefined && { token }), ...(slicePath !== undefined && { slicePath }) };
}

/** @param {Engine} engine */
async function nextToken(engine) {
  const logits = await engine.step({ tokens: [1], position: 0, outputs: 1 });
  return createSampler({ ...defaultSampling, temperature: 0 }).sample(logits);
}

/**
 * @param {WeightsFrom} from @param {readonly string[]} files @param {string | undefined} slicePath
 * @param {import("#stellium/weights/window/blockWeights").WindowPlacement} placement
 * @returns {Promise<import("#stellium/engine/protocol").WeightOrigin>}
 */
async function originOf(from, files, slicePath, placement) {
  if (slicePath !== undefined) return { kind: "slice", map: await sliceMap(slicePath), placement };
  return from === "plain" ? { kind: "plain", files, placement } : { kind: "gguf", files };
}

/**
 * The path of the model's slice, which is made if it is not there.
 * @param {ModelSource} source @param {import("#stellium/plan/rankDescription").RankDescription} description
 * @param {string} cacheDir
 */
async function slice(source, description, cacheDir) {
  const reading = new SharedReading(await source.files(), { readers: 1, shared: false });
  reading.open();
  const wanted = deviceSlice(description, outlineOf(source.model, await source.hash()));
  const hold = await storedSlice(wanted, { source: reading.join(wanted.cut.blocks), cacheDir });
  await hold[Symbol.asyncDispose]();
  return hold.path;
}
