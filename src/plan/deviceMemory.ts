import type { BlockCost } from "../model/blocks/block.ts";
import { type BlockSum, costOf, sumsOf } from "../model/blocks/definitions.ts";
import { expertCount, ofExperts } from "../model/expertWeights.ts";
import { leastPoolBytes, planSlots, type SlotUnit, slotUnit } from "../weights/pool/slots.ts";
import { sliceBytes } from "../weights/slice.ts";
import { type MemoryDemand, planMemory } from "./memory.ts";
import { sum } from "./passTiming.ts";
import type { RankDescription } from "./rankDescription.ts";
import { planWindow, type WindowPlan } from "./window.ts";

/** What a device's memory is planned from, beside what it computes. */
export interface DeviceDemand extends MemoryDemand {
  /** Bytes of the KV cache of the whole context. */
  readonly kvBytes: number;
  /** Bytes of buffers for the links to other devices. */
  readonly linkBytes: number;
  /** Bytes of what the process does besides; none if absent. */
  readonly hostBytes?: number | undefined;
  /** Bytes that the process may take in all; no limit if absent. */
  readonly capBytes?: number | undefined;
  /** See `WindowDemand`. */
  readonly windowBlocks?: number | undefined;
  /** Room that weights take as this device lays them out; what they have in the plain layout if absent. */
  readonly rooms?: WeightRooms | undefined;
}

/** Room that weights take in memory. */
export interface WeightRooms {
  /** By block; one more for what belongs to no block. */
  readonly blocks: readonly number[];
  /** By expert, in order of computing. */
  readonly experts: readonly number[];
}

/** What a device holds of the experts of a model, in bytes. */
export interface ExpertMemory {
  /** Experts of all blocks, and slots for them. */
  readonly count: number;
  readonly slots: number;
  /** Of all experts of each block, in memory or not. */
  readonly blockBytes: readonly number[];
  readonly poolBytes: number;
  /** Part of a block's experts that one token gets; 0 if there are none. */
  readonly usedPart: number;
}

/** Work of a block in a forward pass. */
export interface BlockWork {
  readonly computes: BlockCost["computes"];
  readonly sums: readonly BlockSum[];
}

/** Where a device's memory goes under its cap, in bytes. */
export interface DeviceMemory {
  readonly capBytes: number | undefined;
  /** All that the device has of the model, in memory or not. */
  readonly weightBytes: number;
  readonly blockBytes: readonly number[];
  /** Of each block: the tokens that it computes, and what all ranks add up. */
  readonly blockWork: readonly BlockWork[];
  /** What stays in memory of the blocks without their experts, and what passes through the window. */
  readonly window: WindowPlan;
  readonly experts: ExpertMemory;
  readonly kvBytes: number;
  readonly computeBytes: number;
  readonly linkBytes: number;
  readonly runtimeBytes: number;
  readonly totalBytes: number;
  /** The least cap that would do. */
  readonly leastCapBytes: number;
  /** True if the cap is at least that. If it is not, the plan is that for the least cap. */
  readonly fits: boolean;
}

/** Measured: the threads that read experts, and the graphs of a block whose experts are read. */
const expertReaderBytes = 32e6;
const expertGraphBytes = 0.6e6;

/**
 * Spends what the cap leaves beside everything else on weights. Reading experts takes memory, too: a small mixture takes
 * less if it is all in memory.
 */
export function planDeviceMemory(description: RankDescription, demand: DeviceDemand): DeviceMemory {
  const memory = spend(description, demand, 0);
  if (memory.experts.slots === memory.experts.count) return memory;
  const mixtures = description.blocks.filter((block) => expertCount(block) > 0).length;
  const reading = spend(description, demand, expertReaderBytes + mixtures * expertGraphBytes);
  const resident = spend(description, { ...demand, capBytes: undefined }, 0);
  if (resident.totalBytes > reading.leastCapBytes) return reading;
  return { ...resident, capBytes: demand.capBytes, leastCapBytes: Math.ceil(resident.totalBytes), fits: false };
}

/** @param readingBytes - what reading experts takes */
function spend(description: RankDescription, demand: DeviceDemand, readingBytes: number): DeviceMemory {
  const { kvBytes, linkBytes, hostBytes = 0, capBytes, windowBlocks } = demand;
  const planned = planMemory(description, demand, kvBytes);
  const { weights, compute } = planned;
  const runtime = planned.runtime + hostBytes + readingBytes;
  const { routing } = description.hyperparameters;
  const rooms = demand.rooms ?? plainBytes(description, weights);
  const [blockBytes, otherBytes] = [rooms.blocks.slice(0, -1), rooms.blocks.at(-1)!];
  const units = slotUnitsOf(description, rooms);
  const leastPool = leastPoolBytes(units, leastSlots(description));
  const fixedBytes = kvBytes + compute + linkBytes + runtime + otherBytes;
  const budgetBytes = (capBytes ?? Number.POSITIVE_INFINITY) - fixedBytes;
  const window = planWindow({ blockBytes, budgetBytes: budgetBytes - leastPool, windowBlocks });
  const left = Math.max(leastPool, budgetBytes - window.pinnedBytes - window.windowBytes);
  const slots = planSlots(units, left, leastSlots(description));
  return {
    capBytes,
    weightBytes: sum(blockBytes) + sum(rooms.experts) + otherBytes,
    blockBytes,
    blockWork: description.blocks.map((block) => ({
      computes: costOf(block, description.share).computes,
      sums: sumsOf(block),
    })),
    window,
    experts: {
      count: units.length,
      slots: sum(slots.classes.map((each) => each.slots)),
      blockBytes: expertBytesOf(description, rooms),
      poolBytes: slots.bytes,
      usedPart: routing === undefined ? 0 : routing.used / routing.count,
    },
    kvBytes,
    computeBytes: compute,
    linkBytes,
    runtimeBytes: runtime + otherBytes,
    totalBytes: fixedBytes + window.pinnedBytes + window.windowBytes + slots.bytes,
    leastCapBytes: Math.ceil(fixedBytes + window.leastBytes + leastPool),
    fits: window.fits,
  };
}

/** True if not all weights are in memory at once. */
export function streamsWeights({ window, experts }: DeviceMemory): boolean {
  return window.streamedBytes > 0 || experts.slots < experts.count;
}

/** Bytes of weights that are read at the start, to stay in memory. */
export function loadedBytes({ window, experts }: DeviceMemory): number {
  return window.pinnedBytes + (experts.slots < experts.count ? 0 : experts.poolBytes);
}

/** Experts that a token needs of a block. */
function leastSlots({ hyperparameters: { routing } }: RankDescription): number {
  return routing?.used ?? 0;
}

/** What weights have in the plain layout. */
function plainBytes({ blocks }: RankDescription, weightBytes: number): WeightRooms {
  const dense = blocks.map((block) => sum(block.weights.map(sliceBytes)));
  const experts = blocks.flatMap((block) => ofExperts(block, (own) => sum(own.map(sliceBytes))));
  return { blocks: [...dense, weightBytes - sum(dense) - sum(experts)], experts };
}

/** Room that the experts of each block take. */
function expertBytesOf({ blocks }: RankDescription, { experts }: WeightRooms): number[] {
  let unit = 0;
  return blocks.map((block) => {
    const first = unit;
    unit += expertCount(block);
    return sum(experts.slice(first, unit));
  });
}

function slotUnitsOf({ blocks }: RankDescription, { experts }: WeightRooms): SlotUnit[] {
  const parts = blocks.flatMap((block) => ofExperts(block, (own) => own));
  return parts.map((own, unit) => slotUnit(experts[unit]!, own));
}
