import { StelliumError } from "../errors.ts";
import type { DeviceMemory } from "../plan/deviceMemory.ts";
import { pageBytes } from "../weights/pages.ts";

/** How much memory this process may take in all, and who says so. */
export interface MemoryCap {
  readonly bytes: number;
  readonly from: "asked" | "free" | "cgroup";
}

/** What is left to others of the memory that is free, the smaller of the two. */
const margin = { bytes: 1e9, fraction: 0.1 };

/**
 * This process's cap: what was asked for, but no more than the control group it is in has; otherwise what is free and
 * what it has already, less a margin, divided among so many processes.
 */
export function memoryCap(asked: number | undefined, processes = 1): MemoryCap {
  const limit = process.constrainedMemory();
  if (asked !== undefined) {
    const bytes = limit > 0 ? Math.min(asked, limit) : asked;
    // Control groups have whole pages.
    return { bytes, from: asked - bytes < pageBytes ? "asked" : "cgroup" };
  }
  const free = process.availableMemory() + process.memoryUsage.rss();
  const usable = free - Math.min(margin.bytes, free * margin.fraction);
  return { bytes: Math.floor(usable / processes), from: "free" };
}

/** Throws `OUT_OF_MEMORY`, with every item and the least cap that would do, where a plan does not fit its cap. */
export function demandFit(memory: DeviceMemory, cap: MemoryCap, what: string): void {
  if (memory.fits) return;
  const items = memoryItems(memory).map(({ name, bytes }) => `${name} ${megabytes(bytes)}`);
  const needed = `${megabytes(memory.leastCapBytes)} at least (${items.join(", ")})`;
  const said = { asked: "--memory", free: "what is free, less a margin", cgroup: "this control group's limit" }[
    cap.from
  ];
  throw new StelliumError("OUT_OF_MEMORY", { what, needed, available: `${megabytes(cap.bytes)} (${said})` });
}

/** Where the memory goes; what takes none is left out. */
export function memoryItems(memory: DeviceMemory): { name: string; bytes: number }[] {
  const { runtimeBytes, kvBytes, computeBytes, linkBytes, window } = memory;
  const items = [
    { name: "program and vocabulary", bytes: runtimeBytes },
    { name: "KV cache", bytes: kvBytes },
    { name: "intermediate results", bytes: computeBytes },
    { name: "links", bytes: linkBytes },
    { name: "window", bytes: window.windowBytes },
    { name: "pinned weights", bytes: window.pinnedBytes },
  ];
  return items.filter(({ bytes }) => bytes > 0);
}

/** In whole megabytes, rounded up: a cap of so many does. */
export function megabytes(bytes: number): string {
  return `${Math.ceil(bytes / 1e6)} MB`;
}
