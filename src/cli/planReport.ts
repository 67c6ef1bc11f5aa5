import { capSource, type MemoryCap, mayBeCached, megabytes, memoryItems } from "../cluster/memoryCap.ts";
import { type ThreadChoice, threadsText } from "../cluster/threads.ts";
import type { DeviceMemory } from "../plan/deviceMemory.ts";
import { formatBytes } from "./format.ts";

/** Writes the memory plan to stderr if a cap was asked for or not all fits, and the threads if a CPU quota limits them. */
export function tellPlan(memory: DeviceMemory, cap: MemoryCap, threads: ThreadChoice): void {
  const planned = mayBeCached(cap) && memory.window.streamedBytes === 0 ? [] : memoryLines(memory, cap);
  const lines = [...planned, ...(threads.from === "quota" ? [`threads: ${threadsText(threads)}`] : [])];
  process.stderr.write(lines.map((line) => `${line}\n`).join(""));
}

/** A plan in lines: the cap, each item, and what is streamed. */
export function memoryLines(memory: DeviceMemory, cap: MemoryCap): string[] {
  const { window, totalBytes } = memory;
  const items = memoryItems(memory).map(({ name, bytes }) => `  ${megabytes(bytes).padStart(10)}  ${name}`);
  const pinned = window.pinned.filter(Boolean).length;
  const streams = `each step reads ${formatBytes(window.streamedBytes)} from disk; ${pinned} of ${window.pinned.length} blocks stay in memory`;
  const all = "all weights stay in memory";
  const sum = `memory: ${megabytes(totalBytes)} of ${megabytes(cap.bytes)} (${capSource(cap)})`;
  return [sum, ...items, `  ${window.streamedBytes > 0 ? streams : all}`];
}
