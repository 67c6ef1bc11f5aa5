import type { KvType } from "../engine/kvCache.ts";
import { sliceBytes } from "../weights/slice.ts";
import type { RankDescription } from "./rankDescription.ts";

/** Where a device's memory goes, in bytes. */
export interface MemoryPlan {
  readonly weights: number;
  readonly kv: number;
  /** Inputs and intermediate results of the largest step. */
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
  /** Most tokens of a step that have logits. */
  readonly outputs: number;
  /** Sequences side by side; 1 if absent. */
  readonly slots?: number | undefined;
  /** Whether threads record what they do. */
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
export function weightBytes({ blocks, ropeFactors }: RankDescription): number {
  const slices = [...blocks.flatMap((block) => block.weights), ...(ropeFactors ? [ropeFactors] : [])];
  return slices.reduce((sum, slice) => sum + sliceBytes(slice), 0);
}

/**
 * The widest point of a block is its feed-forward part: the state, its norm, gate, up and their product, and the
 * quantized copies that matrices are multiplied with. Where sequences share a step, what attention gave to each is put
 * together in one more copy. Logits, hidden states that are asked for, and the attention mask come on top.
 */
function computeBytes({ hyperparameters: h }: RankDescription, demand: MemoryDemand): number {
  const { batch, context, outputs, slots = 1 } = demand;
  const heads = (slots === 1 ? 2 : 4) * h.headCount * h.keyLength;
  const values = batch * (4 * h.embeddingLength + 4 * h.feedForwardLength + heads);
  const results = 2 * h.vocabularySize * outputs + (outputs === 0 ? 0 : batch * h.embeddingLength);
  const mask = batch * context * 2;
  return 4 * (values + results) + mask;
}
