import { join } from "node:path";
import { median } from "../single/statistics.mjs";
import { inGroups, replyOf, startIn } from "./contained.mjs";

/** @typedef {import("./designEngine.mjs").Design} Design */
/** @typedef {import("./designEngine.mjs").DesignReply} DesignReply */
/** @typedef {{ name: string, tokenMs: number, diskBytes: number, peakBytes: number }} DesignFigures */

/**
 * From ours to TPI-LLM's, one change after the other. Its window of two blocks, where a block's room is free only when the
 * next one has been computed, loads a block in no other time than a window of one whose room is free at once: behind the
 * sums of the block before. So that is what stands for it here.
 * @type {{ name: string, design: Design }[]}
 */
const designs = [
  { name: "Stellium", design: {} },
  { name: "no pinned blocks", design: { unpinned: true } },
  { name: "and a window of 2 whose rooms are free late", design: { unpinned: true, window: 1 } },
  { name: "and the plain layout", design: { unpinned: true, window: 1, plain: true } },
  {
    name: "and the vocabulary's matrices for every token",
    design: { unpinned: true, window: 1, plain: true, vocabulary: true },
  },
];

const script = join(import.meta.dirname, "designEngine.mjs");
const context = 256;

/**
 * What each change is worth, under one cap.
 * @param {import("./devices.mjs").Subject} subject
 * @param {number} capBytes
 * @param {import("./limit.mjs").Effort} effort
 * @returns {Promise<DesignFigures[]>}
 */
export async function compareDesigns({ path: model, cacheDir, signal }, capBytes, { rounds, tokens, threads }) {
  const request = { model, cacheDir: join(cacheDir, "0"), capBytes, threads, context };
  /** @type {{ reply: DesignReply, peakBytes: number }[][]} */
  const samples = designs.map(() => []);
  const measure = async (/** @type {Design} */ design, /** @type {number} */ steps) => {
    const input = JSON.stringify({ ...request, ...design, steps });
    const { reply, charged } = await inGroups(1, { memory: capBytes }, async ([group]) => {
      const child = startIn(group, [script], { signal, input });
      return { reply: /** @type {DesignReply} */ (replyOf("the engine", await child.outcome)) };
    });
    return { reply, peakBytes: charged.peakBytes };
  };
  // Cuts the slice.
  await measure({}, 1);
  for (let round = 0; round < rounds; round++) {
    for (const [i, { design }] of designs.entries()) samples[i]?.push(await measure(design, tokens));
  }
  return designs.map(({ name }, i) => ({ name, ...middle(samples[i] ?? []) }));
}

/** @param {{ reply: DesignReply, peakBytes: number }[]} samples */
function middle(samples) {
  return {
    // The first step fills the ring, and verifies blocks.
    tokenMs: median(samples.flatMap(({ reply }) => reply.stepMs.slice(1))),
    diskBytes: samples[0]?.reply.diskBytes ?? Number.NaN,
    peakBytes: Math.max(...samples.map(({ peakBytes }) => peakBytes)),
  };
}
