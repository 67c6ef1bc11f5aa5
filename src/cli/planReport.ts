import { capSource, type MemoryCap, mayBeCached, megabytes, memoryItems } from "../cluster/memoryCap.ts";
import { type ThreadChoice, threadsText } from "../cluster/threads.ts";
import { type DeviceMemory, streamsWeights } from "../plan/deviceMemory.ts";
import { formatBytes } from "./format.ts";

/** Writes the memory plan to stderr if a cap was asked for or not all fits, and the threads if a CPU quota limits them. */
export function tellPlan(memory: DeviceMemory, cap: MemoryCap, threads: ThreadChoice): void {
  const planned = mayBeCached(cap) && !streamsWeights(memory) ? [] : memoryLines(memory, cap);
  const lines = [...planned, ...(threads.from === "quota" ? [`threads: ${threadsText(threads)}`] : [])];
  process.stderr.write(lines.map((line) => `${line}\n`).join(""));
}

/** A plan in lines: the cap, each item, and what is streamed. */
export function memoryLines(memory: DeviceMemory, cap: MemoryCap): string[] {
  const { window, experts, totalBytes } = memory;
  const items = memoryItems(memory).map(({ name, bytes }) => `  ${megabytes(bytes).padStart(10)}  ${name}`);
  const pinned = window.pinned.filter(Boolean).length;
  const streams = `each step reads ${formatBytes(window.streamedBytes)} from disk; ${pinned} of ${window.pinned.length} blocks stay in memory`;
  const all =
    experts.slots < experts.count ? "all weights but those of experts stay in memory" : "all weights stay in memory";
  const pool = `${experts.slots} of ${experts.count} experts have room in memory; others are read from disk as tokens need them`;
  const sum = `memory: ${megabytes(totalBytes)} of ${megabytes(cap.bytes)} (${capSource(cap)})`;
  const told = [window.streamedBytes > 0 ? streams : all, ...(experts.slots < experts.count ? [pool] : [])];
  return [sum, ...items, ...told.map((line) => `  ${line}`)];
}
