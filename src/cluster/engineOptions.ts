import type { KvType } from "../engine/kvCache.ts";
import type { EngineOptions } from "../engine/protocol.ts";
import { weightBytes } from "../plan/memory.ts";
import type { RankDescription } from "../plan/rankDescription.ts";
import { defaultThreads } from "./threads.ts";

/** What all ranks of a cluster have to agree on. */
export interface SharedEngineOptions {
  readonly context: number;
  readonly batch: number;
  readonly kvType: KvType;
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
  readonly trace?: boolean | undefined;
}

const defaultContext = 8192;
const defaultBatch = 512;
/** Idle compute threads spin for a moment, as ggml's own default has it: shorter waits than waking them takes. */
const defaultPoll = 50;

/** Fills in the defaults for a model. */
export function planShared(description: RankDescription, wanted: WantedEngineOptions): SharedEngineOptions {
  const context = wanted.context ?? Math.min(description.hyperparameters.contextLength, defaultContext);
  return {
    context,
    batch: Math.min(wanted.batch ?? defaultBatch, context),
    kvType: wanted.kvType ?? "f16",
    ...(wanted.trace && { trace: true }),
  };
}

/** Options of the engine of rank 0, which gives logits. */
export function planEngine(description: RankDescription, shared: SharedEngineOptions, threads?: number): EngineOptions {
  const computing = threads ?? defaultThreads(weightBytes(description));
  return { ...shared, threads: computing, poll: defaultPoll, outputs: 1, graphs: "whole" };
}

/** Options of a worker's engine, whose logits nobody asks for. */
export function planWorkerEngine(
  description: RankDescription,
  shared: SharedEngineOptions,
  threads?: number,
): EngineOptions {
  return { ...planEngine(description, shared, threads), outputs: 0 };
}
