import type { WireName } from "../collective/wireBlock.ts";
import { linkBytes } from "../engine/links/linkMemory.ts";
import { passedOn } from "../model/blocks/definitions.ts";
import { planBatch } from "../plan/batch.ts";
import { type DeviceMemory, planDeviceMemory, type WeightRooms } from "../plan/deviceMemory.ts";
import type { RankDescription } from "../plan/rankDescription.ts";
import { plannedKvBytes, type SharedEngineOptions } from "./engineOptions.ts";

/** What a device's memory is planned from, beside what all ranks agree on. */
export interface RankDemand {
  readonly description: RankDescription;
  /** See `DeviceSlice`; what the plain layout takes if absent. */
  readonly rooms?: WeightRooms | undefined;
  /** What the process may take in all; no limit if absent. */
  readonly cap: { readonly bytes: number } | undefined;
  readonly windowBlocks: number | undefined;
  /** What the process does besides, such as serving; none if absent. */
  readonly hostBytes?: number | undefined;
  /** How many ranks there are, and how what they add up travels. */
  readonly ranks: number;
  readonly wire: WireName;
}

/** Plans a rank's memory under its cap, with all sequences that may be side by side, and the copies beside them. */
export function deviceMemory(demand: RankDemand, shared: SharedEngineOptions): DeviceMemory {
  const { description, rooms, cap, windowBlocks, hostBytes, ranks, wire } = demand;
  const { hyperparameters, blocks, share } = description;
  const values = { usual: hyperparameters.embeddingLength, exact: passedOn(blocks, share).steering };
  return planDeviceMemory(description, {
    ...shared,
    outputs: description.rank === 0 ? shared.slots : 0,
    kvBytes: plannedKvBytes(description, shared),
    linkBytes: linkBytes(ranks, wire, values, shared.batch),
    capBytes: cap?.bytes,
    windowBlocks,
    hostBytes,
    rooms,
  });
}

/** The batch that is best under the cap, where none was asked for. */
export function batchUnderCap(demand: RankDemand, shared: SharedEngineOptions): SharedEngineOptions {
  const plan = (batch: number) => deviceMemory(demand, { ...shared, batch });
  return { ...shared, batch: Math.max(planBatch(shared.context, shared.batch, plan), shared.slots) };
}
