import type { EngineOptions } from "../engine/protocol.ts";
import { StelliumError } from "../errors.ts";
import { stateOf } from "../model/blocks/definitions.ts";
import { cellBytes, type KvType, paddedCells } from "../model/cells.ts";
import type { RankShare } from "../model/split.ts";
import type { RankDescription } from "../plan/rankDescription.ts";
import { mostSlots } from "../plan/shares.ts";

/** What all ranks of a cluster have to agree on. */
export interface SharedEngineOptions {
  readonly context: number;
  readonly batch: number;
  readonly kvType: KvType;
  /** Sequences side by side. */
  readonly slots: number;
  /** Cells that copies of slots beside the KV cache may have together. */
  readonly storedCells: number;
  /** Whether threads record what they do; not if absent. */
  readonly trace?: boolean | undefined;
}

/** What a user may ask for; everything has a default. */
export interface WantedEngineOptions {
  /** Tokens a sequence may have; 8192 if absent, or what the model was trained for where that is less. */
  readonly context?: number | undefined;
  /** Most prompt tokens that pass through the blocks at once; 512 if absent. */
  readonly batch?: number | undefined;
  readonly kvType?: KvType | undefined;
  /** Sequences side by side, each with a whole context; 1 if absent. */
  readonly parallel?: number | undefined;
  /** Bytes that copies of evicted prefixes may take, on each device at most; none if absent. */
  readonly prefixBytes?: number | undefined;
  readonly trace?: boolean | undefined;
}

const defaultContext = 8192;
const defaultBatch = 512;
/** Idle compute threads spin for a moment, as ggml's own default has it: shorter waits than waking them takes. */
const defaultPoll = 50;
/** Where blocks are streamed, threads that wait for a block leave the cores to those who read it. */
const streamingPoll = 0;

/** How one device computes. */
export interface Computing {
  readonly threads: number;
  /** See `EngineOptions.recordRouting`. */
  readonly recordRouting?: string | undefined;
  /** Whether blocks are brought from the disk for every step. */
  readonly streaming: boolean;
}

/** Fills in the defaults for a model. Throws `BAD_USAGE` for more sequences than there can be. */
export function planShared(description: RankDescription, wanted: WantedEngineOptions): SharedEngineOptions {
  const { kvType = "f16", parallel: slots = 1, prefixBytes = 0, trace } = wanted;
  if (!(Number.isInteger(slots) && slots >= 1 && slots <= mostSlots)) {
    throw new StelliumError("BAD_USAGE", {
      detail: `there can be 1 to ${mostSlots} sequences side by side, not ${slots}`,
    });
  }
  const h = description.hyperparameters;
  const context = wanted.context ?? Math.min(h.contextLength, defaultContext);
  // Every step has room for a token of each sequence.
  const batch = Math.max(Math.min(wanted.batch ?? defaultBatch, context), slots);
  const most = Math.max(...description.shares.map((share) => storedCellBytes(description, kvType, share)));
  const storedCells = Math.floor(prefixBytes / most);
  return { context, batch, kvType, slots, storedCells, ...(trace && { trace }) };
}

/** Bytes of a rank's KV cache, with the copies of slots beside it. */
export function plannedKvBytes(description: RankDescription, shared: SharedEngineOptions): number {
  const { kvType, context, slots, storedCells } = shared;
  return (paddedCells(context) * slots + storedCells) * storedCellBytes(description, kvType);
}

/** Options of the engine of rank 0, which gives logits. */
export function planEngine(
  shared: SharedEngineOptions,
  { threads, streaming, recordRouting }: Computing,
): EngineOptions {
  const poll = streaming ? streamingPoll : defaultPoll;
  return { ...shared, threads, poll, outputs: shared.slots, graphs: "whole", ...(recordRouting && { recordRouting }) };
}

/** Bytes of one cell in all layers, on the rank itself or one with another share. */
export function storedCellBytes({ blocks, share: own }: RankDescription, type: KvType, share: RankShare = own): number {
  return cellBytes(
    blocks.flatMap((block) => stateOf(block) ?? []),
    share,
    type,
  );
}

/** Options of a worker's engine, which gives no logits. */
export function planWorkerEngine(shared: SharedEngineOptions, computing: Computing): EngineOptions {
  return { ...planEngine(shared, computing), outputs: 0 };
}
