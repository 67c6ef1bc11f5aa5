import type { WeightOrigin } from "../engine/protocol.ts";
import { StelliumError } from "../errors.ts";
import { log } from "../log.ts";
import { type DeviceMemory, streamsWeights } from "../plan/deviceMemory.ts";
import { plainRooms } from "../plan/rankDescription.ts";
import { isWithoutCache } from "../system/cacheFolder.ts";
import type { Hold } from "../weights/hold.ts";
import type { ModelSource } from "../weights/modelSource.ts";
import type { SharedReading } from "../weights/sharedReading.ts";
import type { WindowPlacement } from "../weights/window/blockWeights.ts";
import { sliceMap } from "../weights/window/sliceMap.ts";
import { deviceMemory, type RankDemand } from "./deviceMemory.ts";
import { deviceSlice, storedSlice } from "./deviceSlice.ts";
import type { SharedEngineOptions } from "./engineOptions.ts";
import { demandFit, type MemoryCap, mayBeCached } from "./memoryCap.ts";
import { outlineOf } from "./rankPlan.ts";

/** How rank 0 may have its weights. */
export interface OwnWeightsOptions {
  /** Folder of the cache; the default one if absent. */
  readonly cacheDir?: string | undefined;
  /** Bytes that the cache may take; see `CacheLimit`. */
  readonly cacheSize?: number | undefined;
  /** Whether weights that do not fit memory are streamed from the model's files, without a slice on the disk. */
  readonly noSlice?: boolean | undefined;
  /** Told the bytes of the slice that are cut, and all that have to be. */
  readonly onCut?: ((bytes: number, total: number) => void) | undefined;
}

/** What rank 0's memory is planned from. */
export interface OwnDemand extends RankDemand {
  readonly cap: MemoryCap;
}

/** The model, and how all ranks' slices are cut from it. */
export interface OwnModel {
  readonly source: ModelSource;
  readonly reading: SharedReading;
}

/** Where weights come from, and what memory is planned with that. */
export interface OwnWeights {
  readonly origin: WeightOrigin;
  readonly memory: DeviceMemory;
  /** The slice, if they come from one: to be disposed of when it is no longer read. */
  readonly hold?: Hold;
}

/**
 * Decides where rank 0 reads its weights. Weights that fit memory come from the model's files. Others are streamed: from
 * a slice in this device's layouts, which is cut once; or, if that is unwanted or cannot be written, from the model's
 * files, in the plain layout. A model at a URL always has a slice: that is what this device keeps of it. Throws
 * `OUT_OF_MEMORY` and what reading the model does; for a model at a URL also `CACHE_FULL`, `DISK_FULL`,
 * `CACHE_UNWRITABLE`, `HOME_UNKNOWN`, and `BAD_USAGE` for `noSlice`.
 *
 * @param suspect - whether the slice could not be loaded before
 */
export async function ownWeights(
  model: OwnModel,
  demand: OwnDemand,
  shared: SharedEngineOptions,
  options: OwnWeightsOptions,
  suspect = false,
): Promise<OwnWeights> {
  const memory = deviceMemory(demand, shared);
  const { description, cap } = demand;
  const { remote } = model.source;
  demandFit(memory, cap, whatOf(demand, shared));
  if (remote && options.noSlice) throw new StelliumError("BAD_USAGE", { detail: "--no-slice is for files, not URLs" });
  const resident = !streamsWeights(memory);
  const cached = resident && mayBeCached(cap);
  if (resident && !remote) return { memory, origin: { kind: "gguf", files: description.files, cached } };
  if (options.noSlice) return plainWeights(demand, shared);
  try {
    const hold = await cutSlice(model, demand, options, suspect);
    return { memory, hold, origin: await sliceOrigin(hold, placementOf(memory, cached)) };
  } catch (error) {
    if (remote || !isWithoutCache(error)) throw error;
    log("warn", `${error.message}; the model is streamed from its own file, which is slower. ${error.hint}`);
    return plainWeights(demand, shared);
  }
}

/** Lets go of the slice if it cannot be read. */
async function sliceOrigin(hold: Hold, placement: WindowPlacement): Promise<WeightOrigin> {
  try {
    return { kind: "slice", map: await sliceMap(hold.path), placement };
  } catch (error) {
    await hold[Symbol.asyncDispose]();
    throw error;
  }
}

/** Which blocks of a plan stay in memory: the ones it says, and what belongs to no block. */
export function placementOf({ window, experts }: DeviceMemory, cached = false): WindowPlacement {
  return { pinned: window.pinned, windowBytes: window.windowBytes, poolBytes: experts.poolBytes, cached };
}

async function cutSlice(
  { source, reading }: OwnModel,
  { description }: OwnDemand,
  { cacheDir, cacheSize, onCut: onProgress }: OwnWeightsOptions,
  suspect: boolean,
): Promise<Hold> {
  const slice = deviceSlice(description, outlineOf(source.model, await source.hash()));
  using blocks = reading.join(slice.cut.blocks);
  return await storedSlice(slice, { source: blocks, cacheDir, cacheSize, suspect, onProgress });
}

function plainWeights(demand: OwnDemand, shared: SharedEngineOptions): OwnWeights {
  const { files } = demand.description;
  const rooms = plainRooms(demand.description);
  const memory = deviceMemory({ ...demand, rooms }, shared);
  demandFit(memory, demand.cap, whatOf(demand, shared));
  return { memory, origin: { kind: "plain", files, placement: placementOf(memory) } };
}

function whatOf({ description }: OwnDemand, { context }: SharedEngineOptions): string {
  return `${description.files[0]} with a context of ${context} tokens`;
}
