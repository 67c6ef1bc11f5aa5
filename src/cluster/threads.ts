import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";

/** Below this, threads take longer to meet between operations than to compute them. */
const singleThreadBytes = 64e6;

/** How many threads compute weights of so many bytes best: one for each physical core that this process may use. */
export function defaultThreads(weightBytes: number): number {
  if (weightBytes < singleThreadBytes) return 1;
  return Math.max(1, Math.min(availableParallelism(), physicalCores() ?? availableParallelism()));
}

/** How many threads each of so many processes on this machine computes best with. */
export function threadsAmong(processes: number): number {
  return Math.max(1, Math.floor(defaultThreads(Infinity) / processes));
}

/** Cores of which hyperthreads share one, where the system tells. */
function physicalCores(): number | undefined {
  try {
    const siblings = Array.from({ length: availableParallelism() }, (_, cpu) =>
      readFileSync(`/sys/devices/system/cpu/cpu${cpu}/topology/thread_siblings_list`, "utf8"),
    );
    return new Set(siblings).size;
  } catch {
    return undefined;
  }
}
