import type { DeviceMemory } from "./deviceMemory.ts";

/** Batches that are tried, largest first. */
const batches = [4096, 2048, 1024, 512, 256, 128, 64, 32];
/** A prompt passes over the weights once for each batch; what computes a larger one is lacking for pinned blocks. */
const mostOfCap = 0.1;

/**
 * How many tokens of a prompt pass through the blocks at once. Where all weights are in memory, `usual`; where some are
 * streamed, as many as a tenth of the memory lets be computed, and in a cap too small for that, as many as fit.
 *
 * @param plan - the memory for a batch
 */
export function planBatch(context: number, usual: number, plan: (batch: number) => DeviceMemory): number {
  const common = Math.min(usual, context);
  const { window, fits, capBytes = Number.POSITIVE_INFINITY } = plan(common);
  if (fits && window.streamedBytes === 0) return common;
  const possible = [...new Set(batches.map((batch) => Math.min(batch, context)))];
  const fitting = possible.filter((batch) => plan(batch).fits);
  return (
    fitting.find((batch) => plan(batch).computeBytes <= capBytes * mostOfCap) ?? fitting.at(-1) ?? possible.at(-1)!
  );
}
