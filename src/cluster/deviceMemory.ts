import { groupBytes } from "../collective/group.ts";
import { defaultMaxPayload } from "../collective/openLinks.ts";
import { openWire, type WireName } from "../collective/wire.ts";
import { kvCacheBytes } from "../engine/kvCache.ts";
import { planBatch } from "../plan/batch.ts";
import { type DeviceMemory, planDeviceMemory } from "../plan/deviceMemory.ts";
import type { RankDescription } from "../plan/rankDescription.ts";
import type { SharedEngineOptions } from "./engineOptions.ts";
import type { MemoryCap } from "./memoryCap.ts";

/** What a device's memory is planned from. */
export interface DeviceDemand {
  readonly description: RankDescription;
  /** See `DeviceSlice`. */
  readonly rooms: readonly number[];
  readonly cap: MemoryCap;
  readonly windowBlocks: number | undefined;
  /** How many ranks there are, and how what they add up travels. */
  readonly ranks: number;
  readonly wire: WireName;
}

/** Plans a rank's memory under its cap. */
export function deviceMemory(demand: DeviceDemand, shared: SharedEngineOptions): DeviceMemory {
  const { description, rooms, cap, windowBlocks, ranks, wire } = demand;
  const h = description.hyperparameters;
  return planDeviceMemory(description, {
    ...shared,
    outputs: description.rank === 0 ? 1 : 0,
    kvBytes: kvCacheBytes(h, shared.kvType, shared.context),
    linkBytes: ranks === 1 ? 0 : groupBytes(ranks, openWire(wire), shared.batch * h.embeddingLength, defaultMaxPayload),
    capBytes: cap.bytes,
    windowBlocks,
    rooms,
  });
}

/** The batch that is best under the cap, where none was asked for. */
export function batchUnderCap(demand: DeviceDemand, shared: SharedEngineOptions): SharedEngineOptions {
  const batch = planBatch(shared.context, shared.batch, (size) => deviceMemory(demand, { ...shared, batch: size }));
  return { ...shared, batch };
}
