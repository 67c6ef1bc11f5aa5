/** What a window is planned from. */
export interface WindowDemand {
  /** Room that each block takes in memory, in order of computing; 0 for a block without weights. */
  readonly blockBytes: readonly number[];
  /** What pinned blocks and window may take together. */
  readonly budgetBytes: number;
  /** How many blocks the window is to hold; three if absent, or as many as there is room for. */
  readonly windowBlocks?: number | undefined;
}

/** Which blocks stay in memory, and how much room the others pass through. */
export interface WindowPlan {
  /** By block: whether it is always in memory. Blocks without weights are. */
  readonly pinned: readonly boolean[];
  readonly pinnedBytes: number;
  /** Bytes of the ring that the other blocks are read into; 0 where all are pinned. */
  readonly windowBytes: number;
  /** Bytes that are read from the disk for every pass. */
  readonly streamedBytes: number;
  /** The least budget that would do. */
  readonly leastBytes: number;
  /** True if the budget is at least that. Where it is not, this is the plan for that least budget. */
  readonly fits: boolean;
}

/** One block is computed from, one is read, and one lets reading go on while computing pauses. */
const defaultBlocks = 3;

/**
 * Plans which blocks are pinned. A cyclic scan gains nothing from keeping what was used last, so what stays in memory is
 * fixed: as many bytes as the budget leaves beside the window, spread over the blocks so that what is to be read between
 * two of them is about the same everywhere.
 */
export function planWindow({ blockBytes, budgetBytes, windowBlocks }: WindowDemand): WindowPlan {
  const total = sum(blockBytes);
  const largest = blockBytes.reduce((most, bytes) => Math.max(most, bytes), 0);
  const none = blockBytes.map((bytes) => bytes === 0);
  const least = Math.min(total, windowBlocks === undefined ? largest : ringBytes(blockBytes, none, windowBlocks));
  const budget = Math.max(budgetBytes, least);
  const pinned = total <= budget ? blockBytes.map(() => true) : spread(blockBytes, budget, windowBlocks);
  const pinnedBytes = sum(blockBytes.filter((_, i) => pinned[i]));
  const windowBytes = Math.min(budget - pinnedBytes, ringBytes(blockBytes, pinned, windowBlocks ?? defaultBlocks));
  const streamedBytes = total - pinnedBytes;
  return { pinned, pinnedBytes, windowBytes, streamedBytes, leastBytes: least, fits: budgetBytes >= least };
}

/** Most bytes that `count` streamed blocks in a row have, where the first follows on the last. */
function ringBytes(blockBytes: readonly number[], pinned: readonly boolean[], count: number): number {
  const streamed = blockBytes.filter((_, i) => !pinned[i]);
  const within = Math.min(count, streamed.length);
  const from = (start: number) =>
    sum(Array.from({ length: within }, (_, i) => streamed[(start + i) % streamed.length]!));
  return streamed.reduce((most, _, start) => Math.max(most, from(start)), 0);
}

/** Passes in which the fraction to be pinned is looked for: finer than one block of any model. */
const fractionSteps = 16;

/** Pins the largest fraction of all bytes that leaves room for the window, and then whatever else fits. */
function spread(blockBytes: readonly number[], budget: number, windowBlocks: number | undefined): boolean[] {
  const fits = (pinned: readonly boolean[]) => {
    const used = sum(blockBytes.filter((_, i) => pinned[i]));
    return used + ringBytes(blockBytes, pinned, windowBlocks ?? defaultBlocks) <= budget;
  };
  let [low, high] = [0, 1];
  for (let step = 0; step < fractionSteps; step++) {
    const middle = (low + high) / 2;
    if (fits(diffused(blockBytes, middle))) low = middle;
    else high = middle;
  }
  return filled(blockBytes, diffused(blockBytes, low), fits);
}

/** Pins about a fraction of the bytes, by carrying over from block to block what is still owed. */
function diffused(blockBytes: readonly number[], fraction: number): boolean[] {
  let owed = 0;
  return blockBytes.map((bytes) => {
    owed += fraction * bytes;
    const pins = bytes === 0 || owed > bytes / 2;
    if (pins) owed -= bytes;
    return pins;
  });
}

/** Pins further blocks as long as they fit: always one of those that have the most to be read around them. */
function filled(blockBytes: readonly number[], start: boolean[], fits: (pinned: boolean[]) => boolean): boolean[] {
  const pinned = [...start];
  for (;;) {
    const around = streamedAround(blockBytes, pinned);
    const order = blockBytes.map((_, i) => i).filter((i) => !pinned[i]);
    order.sort((a, b) => around[b]! - around[a]! || a - b);
    const next = order.find((i) => fits(pinned.with(i, true)));
    if (next === undefined) return pinned;
    pinned[next] = true;
  }
}

/** By block: bytes of the unbroken row of streamed blocks that it is in. */
function streamedAround(blockBytes: readonly number[], pinned: readonly boolean[]): number[] {
  const around = blockBytes.map(() => 0);
  for (let start = 0; start < pinned.length; ) {
    let end = start;
    while (end < pinned.length && !pinned[end]) end++;
    around.fill(sum(blockBytes.slice(start, end)), start, end);
    start = end + 1;
  }
  return around;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, value) => total + value, 0);
}
