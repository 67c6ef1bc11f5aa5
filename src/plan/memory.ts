import { costOf, passedOn, windowsOf } from "../model/blocks/definitions.ts";
import type { KvType } from "../model/cells.ts";
import { blockWeightBytes } from "../model/expertWeights.ts";
import { inputValues, jointInputs } from "../model/hyperparameters.ts";
import { sliceBytes } from "../weights/slice.ts";
import { sum } from "./passTiming.ts";
import type { RankDescription } from "./rankDescription.ts";

/** Where a device's memory goes, in bytes. */
export interface MemoryPlan {
  readonly weights: number;
  readonly kv: number;
  /** Inputs and intermediate results of the largest pass. */
  readonly compute: number;
  /** Node, the native libraries and the vocabulary. */
  readonly runtime: number;
  readonly total: number;
}

/** What of the engine's options decides its memory. */
export interface MemoryDemand {
  readonly context: number;
  readonly batch: number;
  readonly kvType: KvType;
  /** Most tokens of a pass that have logits. */
  readonly outputs: number;
  /** Sequences side by side; 1 if absent. */
  readonly slots?: number | undefined;
  /** True if threads record what they do. */
  readonly trace?: boolean | undefined;
}

/** Measured: Node with the libraries loaded, and a thread beside. */
const runtimeBytes = 110e6;
/** A vocabulary in libllama and in JavaScript, per token. */
const vocabularyBytes = 400;
/** Loading stages a piece of a tensor in each of its threads. */
const stagingBytes = 32e6;

/** What five threads record, and a copy when it is read. */
const traceBytes = 21e6;

/** Estimates a device's memory before anything is loaded. `kvBytes` is that of the whole context. */
export function planMemory(description: RankDescription, demand: MemoryDemand, kvBytes: number): MemoryPlan {
  const weights = weightBytes(description);
  const compute = computeBytes(description, demand);
  const vocabulary = description.hyperparameters.vocabularySize * vocabularyBytes;
  const runtime = runtimeBytes + stagingBytes + vocabulary + (demand.trace ? traceBytes : 0);
  return { weights, kv: kvBytes, compute, runtime, total: weights + kvBytes + compute + runtime };
}

/** Bytes of all weights of all blocks; the embedding counts where the head is tied to it. */
export function weightBytes({ blocks, shared }: RankDescription): number {
  return sum([...blocks.map((block) => blockWeightBytes(block)), ...shared.map(sliceBytes)]);
}

/**
 * The state, its norm, what blocks pass on between their graphs, and what the blocks of one layer have at their widest
 * points, with the quantized copies that matrices are multiplied with. Embeddings for each layer, logits, hidden states
 * that are asked for, and the attention mask come on top.
 */
function computeBytes({ hyperparameters: h, blocks, share, perLayer }: RankDescription, demand: MemoryDemand): number {
  const { batch, context, outputs, slots = 1 } = demand;
  const widest = new Map<string, number>();
  for (const block of blocks) {
    const { workingValues } = costOf(block, share, slots);
    widest.set(block.kind, Math.max(widest.get(block.kind) ?? 0, workingValues));
  }
  const { steering, kept, ids, weights } = passedOn(blocks, share);
  const between = Math.max(0, steering - h.embeddingLength) + kept + ids + weights;
  const ofLayers = inputValues(h) - h.embeddingLength;
  const inputs = 2 * batch * ofLayers + (perLayer === undefined ? 0 : jointInputs * (h.embeddingLength + 4 * ofLayers));
  const values = inputs + batch * (4 * h.embeddingLength + between + sum([...widest.values()]));
  const results = 2 * h.vocabularySize * outputs + (outputs === 0 ? 0 : batch * h.embeddingLength);
  const mask = windowsOf(blocks).length * batch * context * 2;
  return 4 * (values + results) + mask;
}
