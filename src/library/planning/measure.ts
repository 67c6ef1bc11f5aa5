import { once } from "node:events";
import { constants, type FileHandle, open } from "node:fs/promises";
import { Worker } from "node:worker_threads";
import { allocatePages } from "../../native/memory.ts";
import { memoryAllowance } from "../../system/memoryAllowance.ts";
import { threadScript } from "../../system/threadScript.ts";

/** Large enough not to lie in caches, where there is room for it. */
const mostBytes = 256e6;
const memoryPasses = 4;
/** Kernels on quantized weights reach 62 to 79 % of what plain reading does; see docs/performance.md. */
const kernelFraction = 0.7;

/** Bytes of weights per second that a number of threads computes with, from how fast they read memory. Takes half a second. */
export async function measureCompute(threads: number): Promise<number> {
  const bytes = Math.floor(Math.min(mostBytes, memoryAllowance().available / 4) / threads);
  const workers = Array.from({ length: threads }, () => new Worker(threadScript("memory"), { workerData: { bytes } }));
  try {
    await Promise.all(workers.map((worker) => once(worker, "message")));
    let best = Number.POSITIVE_INFINITY;
    for (let pass = 0; pass < memoryPasses; pass++) best = Math.min(best, await passMs(workers));
    return ((bytes * threads) / best) * 1000 * kernelFraction;
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
}

async function passMs(workers: readonly Worker[]): Promise<number> {
  const started = performance.now();
  const read = workers.map((worker) => once(worker, "message"));
  for (const worker of workers) worker.postMessage("read");
  await Promise.all(read);
  return performance.now() - started;
}

const requestBytes = 4 << 20;
const requestsInFlight = 4;
/** Reading ends after so many bytes, or so long. */
const enoughBytes = 512e6;
const longEnoughMs = 500;

/**
 * Bytes per second that a file is read at, past the system's cache; undefined where that cannot be told: without direct
 * I/O, and of a file that is small or has holes.
 */
export async function measureDisk(path: string): Promise<number | undefined> {
  const direct = (constants as Partial<typeof constants>).O_DIRECT;
  if (direct === undefined) return undefined;
  try {
    await using file = await open(path, constants.O_RDONLY | direct);
    const { size, blocks } = await file.stat();
    if (size < 8 * requestsInFlight * requestBytes || blocks * 512 < size) return undefined;
    return await readRate(file, size);
  } catch {
    // Not every file system takes direct I/O.
    return undefined;
  }
}

/**
 * Reads from the middle on, where less is likely to be in any cache of the device; into memory like a window's, since a
 * disk takes more of a request at once where that lies in few pieces.
 */
async function readRate(file: FileHandle, size: number): Promise<number> {
  using memory = allocatePages(requestsInFlight * requestBytes);
  const started = performance.now();
  let next = Math.floor(size / 2 / requestBytes) * requestBytes;
  let read = 0;
  const readOn = async (lane: number) => {
    const room = memory.view.subarray(lane * requestBytes, (lane + 1) * requestBytes);
    while (read < enoughBytes && next + requestBytes <= size && performance.now() - started < longEnoughMs) {
      const position = next;
      next += requestBytes;
      const { bytesRead } = await file.read(room, 0, requestBytes, position);
      read += bytesRead;
    }
  };
  const lanes = await Promise.allSettled(Array.from({ length: requestsInFlight }, (_, lane) => readOn(lane)));
  for (const lane of lanes) if (lane.status === "rejected") throw lane.reason;
  return (read / (performance.now() - started)) * 1000;
}
