import { StelliumError } from "../errors.ts";
import type { DeviceMemory } from "../plan/deviceMemory.ts";
import { type MemoryAllowance, memoryAllowance } from "../system/memoryAllowance.ts";

/** Most memory that this process may take, and the limit that decides it. */
export interface MemoryCap {
  readonly bytes: number;
  /**
   * What was asked for, or the control group's limit where that is smaller. Where nothing was asked for: what is free of
   * the machine, or of the control group.
   */
  readonly from: "asked" | "cgroup" | "free" | "groupFree";
}

/** What is left to others of the memory that is free, the smaller of the two. */
const margin = { bytes: 1e9, fraction: 0.1 };

/** Control groups have whole pages, of 64 KB at most. */
const roundingBytes = 65_536;

/**
 * This process's cap. What was asked for, but no more than its control groups allow; otherwise what is free and what it
 * has already, less a margin. Processes on this machine that share the memory have equal parts of it.
 */
export function memoryCap(
  asked: number | undefined,
  processes = 1,
  allowance: MemoryAllowance = memoryAllowance(),
): MemoryCap {
  const { limit = Number.POSITIVE_INFINITY, available, own, grouped } = allowance;
  if (asked !== undefined) {
    const bytes = Math.floor(Math.min(asked, limit / processes));
    return { bytes, from: asked - bytes < roundingBytes ? "asked" : "cgroup" };
  }
  // What this process took before it came into its group is charged to another.
  const free = Math.min(available + own, limit);
  const usable = free - Math.min(margin.bytes, free * margin.fraction);
  return { bytes: Math.floor(usable / processes), from: grouped ? "groupFree" : "free" };
}

/** True if the system's cache may keep what is read of the model, since it does not count against free memory. */
export function mayBeCached({ from }: MemoryCap): boolean {
  return from === "free" || from === "groupFree";
}

/** The limit that decides the cap, for people. */
export function capSource({ from }: MemoryCap): string {
  return {
    asked: "--memory",
    cgroup: "the control group's limit",
    free: "free, less a margin",
    groupFree: "free in the control group, less a margin",
  }[from];
}

/** Throws `OUT_OF_MEMORY`, with every item and the least cap that would do, if a plan does not fit its cap. */
export function demandFit(memory: DeviceMemory, cap: MemoryCap, what: string): void {
  if (memory.fits) return;
  const items = memoryItems(memory).map(({ name, bytes }) => `${name} ${megabytes(bytes)}`);
  const needed = `${megabytes(memory.leastCapBytes)} at least (${items.join(", ")})`;
  throw new StelliumError("OUT_OF_MEMORY", { what, needed, available: `${megabytes(cap.bytes)} (${capSource(cap)})` });
}

/** Where the memory goes, without what takes none. */
export function memoryItems(memory: DeviceMemory): { name: string; bytes: number }[] {
  const { runtimeBytes, kvBytes, computeBytes, linkBytes, window, experts } = memory;
  const items = [
    { name: "program and vocabulary", bytes: runtimeBytes },
    { name: "KV cache", bytes: kvBytes },
    { name: "intermediate results", bytes: computeBytes },
    { name: "links", bytes: linkBytes },
    { name: "window", bytes: window.windowBytes },
    { name: "pinned weights", bytes: window.pinnedBytes },
    { name: "experts", bytes: experts.poolBytes },
  ];
  return items.filter(({ bytes }) => bytes > 0);
}

/** In whole megabytes, rounded up: a cap of that size is enough. */
export function megabytes(bytes: number): string {
  return `${Math.ceil(bytes / 1e6)} MB`;
}
