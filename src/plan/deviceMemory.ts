import type { BlockCost } from "../model/blocks/block.ts";
import { type BlockSum, costOf, sumsOf } from "../model/blocks/definitions.ts";
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
  /**
   * Room that each block takes as this device lays it out, and one more for what belongs to no block; what the blocks
   * have in the plain layout if absent.
   */
  readonly rooms?: readonly number[] | undefined;
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
  /** What stays in memory of them, and what passes through the window. */
  readonly window: WindowPlan;
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

/** Spends what the cap leaves beside everything else on weights. */
export function planDeviceMemory(description: RankDescription, demand: DeviceDemand): DeviceMemory {
  const { kvBytes, linkBytes, hostBytes = 0, capBytes, windowBlocks } = demand;
  const planned = planMemory(description, demand, kvBytes);
  const { weights, compute } = planned;
  const runtime = planned.runtime + hostBytes;
  const plain = description.blocks.map((block) => sum(block.weights.map(sliceBytes)));
  const blockBytes = demand.rooms?.slice(0, -1) ?? plain;
  const otherBytes = demand.rooms?.at(-1) ?? weights - sum(plain);
  const fixedBytes = kvBytes + compute + linkBytes + runtime + otherBytes;
  const budgetBytes = (capBytes ?? Number.POSITIVE_INFINITY) - fixedBytes;
  const window = planWindow({ blockBytes, budgetBytes, windowBlocks });
  return {
    capBytes,
    weightBytes: sum(blockBytes) + otherBytes,
    blockBytes,
    blockWork: description.blocks.map((block) => ({
      computes: costOf(block, description.share).computes,
      sums: sumsOf(block),
    })),
    window,
    kvBytes,
    computeBytes: compute,
    linkBytes,
    runtimeBytes: runtime + otherBytes,
    totalBytes: fixedBytes + window.pinnedBytes + window.windowBytes,
    leastCapBytes: Math.ceil(fixedBytes + window.leastBytes),
    fits: window.fits,
  };
}
