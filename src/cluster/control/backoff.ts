import { setTimeout as sleep } from "node:timers/promises";

const firstMs = 200;
const longestMs = 10_000;

/**
 * Milliseconds to wait before try number `attempt` (from 0): doubles from 0.2 s to 10 s, and between half and all of
 * that by `random` (0 to 1), so that the devices of a cluster do not all come at once.
 */
export function backoffDelay(attempt: number, random = Math.random()): number {
  const full = Math.min(longestMs, firstMs * 2 ** Math.min(attempt, 16));
  return Math.max(firstMs, full * (0.5 + random / 2));
}

/** Waits. Rejects with the signal's reason as soon as it is aborted. */
export async function pause(milliseconds: number, signal?: AbortSignal): Promise<void> {
  await sleep(milliseconds, undefined, signal ? { signal } : {});
}
