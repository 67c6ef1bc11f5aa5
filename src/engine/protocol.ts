import { StelliumError } from "../errors.ts";
import type { KvType } from "../model/cells.ts";
import type { RankDescription } from "../plan/rankDescription.ts";
import { type TraceMemory, traceMemory } from "../trace/recorder.ts";
import { type TracedThread, tracedThreads } from "../trace/spans.ts";
import { loadCounter } from "../weights/loader.ts";
import type { BlockMap } from "../weights/window/blockMap.ts";
import type { WindowPlacement } from "../weights/window/blockWeights.ts";
import type { CellPlace } from "./cellFile.ts";
import { commandInts } from "./rankCommand.ts";
import { readJson, writeJson } from "./sharedJson.ts";
import { type ProfileMemory, profileMemory } from "./stepProfile.ts";

/** How an engine is set up. */
export interface EngineOptions {
  /** Threads that compute. */
  readonly threads: number;
  /** How long idle compute threads spin, 0 to 100; see `openBackend`. */
  readonly poll: number;
  /** Tokens a sequence may have. */
  readonly context: number;
  /** Sequences that the KV cache has room for; 1 if absent. */
  readonly slots?: number | undefined;
  /** Cells that all copies beside the KV cache may have together; none if absent. */
  readonly storedCells?: number | undefined;
  /** Most tokens of one pass. */
  readonly batch: number;
  readonly kvType: KvType;
  /** Most tokens of one pass that may have logits. */
  readonly outputs: number;
  /** One graph for all blocks, or one for each. */
  readonly graphs: "whole" | "block";
  /** True if its threads record what they do; not if absent. */
  readonly trace?: boolean | undefined;
  /** File for a routing record; see `recordRouting`. Needs a model with experts; no record if absent. */
  readonly recordRouting?: string | undefined;
}

/**
 * Where an engine's weights come from: the model's files, from which all is brought into this device's layouts and into
 * memory; a rank's slice, which has these layouts; or the model's files as they are, in the plain layout. Of the last two
 * not everything has to stay in memory.
 */
export type WeightOrigin =
  | { readonly kind: "gguf"; readonly files: readonly string[]; readonly cached?: boolean }
  | { readonly kind: "slice"; readonly map: BlockMap; readonly placement: WindowPlacement }
  | { readonly kind: "plain"; readonly files: readonly string[]; readonly placement: WindowPlacement };

/** What the engine thread is started with. Memory in it is shared. */
export interface EngineSetup {
  readonly description: RankDescription;
  readonly origin: WeightOrigin;
  readonly options: EngineOptions;
  readonly shared: EngineMemory;
}

/** Memory that both threads see: on the way of a token no messages pass between them. */
export interface EngineMemory {
  /** See `control`. */
  readonly control: Int32Array;
  /** See `loadCounter`. */
  readonly loading: Int32Array;
  /** The address of the abort flag (see `BackendOptions`), once the libraries are loaded. */
  readonly abortFlag: BigInt64Array;
  /** What all ranks are to do; see `rankCommand.ts`. */
  readonly rankCommand: Int32Array;
  /** Ids of the tokens of a pass, in order of its parts. */
  readonly tokens: Int32Array;
  /** Rows of logits and hidden states, in order of a pass's parts. */
  readonly results: Float32Array;
  /** See `statistic`. */
  readonly statistics: Float64Array;
  /** What the last pass was made of. */
  readonly profile: ProfileMemory;
  /** What goes with a command, and its result or failure, as UTF-8 JSON. */
  readonly message: Uint8Array;
  /** What each thread records, where they do. */
  readonly trace: EngineTrace | undefined;
}

/** Where the threads of an engine record what they do. */
export type EngineTrace = Readonly<Record<TracedThread, TraceMemory>>;

/** Indices into `control`. The main thread raises `request`, the engine thread answers by raising `response`. */
export const control = {
  request: 0,
  response: 1,
  command: 2,
  status: 3,
  messageBytes: 4,
  length: 5,
} as const;

/**
 * What the engine thread is asked to do: what `rankCommand` says, a pass or a move of cells; end; open a socket for links
 * (`LinkListener`); open the links to the other ranks (`LinkSetup`); do what rank 0 does, until the links are closed;
 * write copies of cells to a file (`CellKeeping`), or take them from one (`CellBringing`).
 */
export const command = { lead: 1, close: 2, listen: 3, link: 4, follow: 5, keepCells: 6, bringCells: 7 } as const;

/** Which copies are written where. */
export interface CellKeeping {
  readonly path: string;
  readonly keys: readonly number[];
}

/** Which copies are taken from where. */
export interface CellBringing {
  readonly path: string;
  readonly places: readonly CellPlace[];
}

/** How it went. */
export const status = { done: 0, aborted: 1, failed: 2 } as const;

/** Indices into `statistics`. Times are in milliseconds; times, counts and traffic are sums over the engine's life. */
export const statistic = {
  computeMs: 0,
  steps: 1,
  weightBytes: 2,
  computeBytes: 3,
  wireMs: 4,
  waitMs: 5,
  cipherMs: 6,
  collectives: 7,
  bytesSent: 8,
  bytesReceived: 9,
  pinnedBytes: 10,
  windowBytes: 11,
  diskWaitMs: 12,
  diskBytes: 13,
  /** Sent to open and measure the links, which is no part of the others. */
  openingBytes: 14,
  /** How much of the window was filled when blocks were asked for, 0 to 1: the mean so far. */
  windowFilled: 15,
  /** Experts that have room in memory; 0 if all are there, or there are none. */
  expertSlots: 16,
  /** Experts of blocks that were wanted and in memory, and those that had to be read. */
  expertHits: 17,
  expertMisses: 18,
  /** Bytes of experts read from disk. */
  expertBytes: 19,
  /** Of passes with one token per sequence: their tokens, and the bytes of experts read for them. */
  decodedTokens: 20,
  decodedExpertBytes: 21,
  /** Of the experts that had to be read: those whose reads began before they were wanted. */
  expertsReadAhead: 22,
  length: 23,
} as const;

/** Bytes of `EngineMemory.message`: addresses and keys of 63 peers fit. */
const messageBytes = 64 * 1024;

/** Writes the value that goes with a command, or comes of it. */
export function putMessage({ control: cells, message }: EngineMemory, value: unknown): void {
  cells[control.messageBytes] = writeJson(message, value);
}

/** Reads what the other side wrote. */
export function takeMessage<T>({ control: cells, message }: EngineMemory): T {
  return readJson<T>(message, cells[control.messageBytes]!);
}

/** What decides how large the memory of an engine is. */
export interface ResultSize {
  readonly vocabularySize: number;
  readonly embeddingLength: number;
  /** Sums over all ranks in one pass. */
  readonly sums: number;
}

/** Allocates the memory of an engine. Where nobody asks for logits, there are no hidden states to be read either. */
export function engineMemory(
  options: EngineOptions,
  { vocabularySize, embeddingLength, sums }: ResultSize,
): EngineMemory {
  const { outputs, batch, slots = 1 } = options;
  const shared = (bytes: number) => new SharedArrayBuffer(bytes);
  const results = outputs === 0 ? 0 : vocabularySize * outputs + embeddingLength * batch;
  return {
    control: new Int32Array(shared(4 * control.length)),
    loading: new Int32Array(shared(4 * loadCounter.length)),
    abortFlag: new BigInt64Array(shared(8)),
    rankCommand: new Int32Array(shared(4 * commandInts(slots))),
    tokens: new Int32Array(shared(4 * batch)),
    results: new Float32Array(shared(4 * results)),
    statistics: new Float64Array(shared(8 * statistic.length)),
    profile: profileMemory(sums),
    message: new Uint8Array(shared(messageBytes)),
    trace: options.trace ? engineTrace() : undefined,
  };
}

function engineTrace(): EngineTrace {
  return Object.fromEntries(tracedThreads.map((thread) => [thread, traceMemory()])) as EngineTrace;
}

/** What the engine thread says, once, when the weights are loaded. */
export interface EngineReady {
  readonly device: string;
  readonly features: readonly string[];
  /** Number of tensors by layout. */
  readonly layouts: ReadonlyMap<string, number>;
}

/** What the other thread needs to throw an error anew. */
export function failureOf(error: unknown): { code: string; values: Record<string, string | number> } {
  if (error instanceof StelliumError) return { code: error.code, values: error.values };
  return { code: "ENGINE_FAILED", values: { reason: String(error) } };
}
