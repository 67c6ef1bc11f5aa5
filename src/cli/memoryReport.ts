import { type MemoryCap, megabytes, memoryItems } from "../cluster/memoryCap.ts";
import type { DeviceMemory } from "../plan/deviceMemory.ts";
import { formatBytes } from "./format.ts";

/** Says on stderr where the memory is going to go, where somebody set a limit or not all fits. */
export function tellMemory(memory: DeviceMemory, cap: MemoryCap): void {
  if (cap.from === "free" && memory.window.streamedBytes === 0) return;
  process.stderr.write(`${memoryLines(memory, cap).join("\n")}\n`);
}

/** A plan in lines: the cap, each item, and what is streamed. */
export function memoryLines(memory: DeviceMemory, cap: MemoryCap): string[] {
  const { window, totalBytes } = memory;
  const said = { asked: "--memory", free: "free, less a margin", cgroup: "the control group's limit" }[cap.from];
  const items = memoryItems(memory).map(({ name, bytes }) => `  ${megabytes(bytes).padStart(10)}  ${name}`);
  const pinned = window.pinned.filter(Boolean).length;
  const streams = `each step reads ${formatBytes(window.streamedBytes)} from disk; ${pinned} of ${window.pinned.length} blocks stay in memory`;
  const all = "all weights stay in memory";
  const sum = `memory: ${megabytes(totalBytes)} of ${megabytes(cap.bytes)} (${said})`;
  return [sum, ...items, `  ${window.streamedBytes > 0 ? streams : all}`];
}
