import { type ReadFailure, readFailure } from "../window/readFailure.ts";

/** Memory that the engine thread shares with the threads that read experts: a queue of reads, and what became of each. */
export interface PoolMemory {
  /** See `poolCell`. */
  readonly cells: Int32Array;
  /** Pairs of unit and slot, a ring of at least as many as there are slots: no slot is read into twice at a time. */
  readonly queue: Int32Array;
  /** By slot: see `slotState`. */
  readonly states: Int32Array;
  /** Why a read failed that nobody has heard of. That of a block is no concern of experts, nor the other way round. */
  readonly failure: ReadFailure;
}

/** Indices into `cells`. */
export const poolCell = {
  /** Reads that were asked for. */
  asked: 0,
  /** Reads that a reader has taken. */
  taken: 1,
  /** Changes whenever readers have reason to look up. */
  wake: 2,
  length: 3,
} as const;

/** What a slot holds. */
export const slotState = { reading: 0, ready: 1, failed: 2 } as const;

/** Allocates the memory for so many slots. */
export function poolMemory(slots: number): PoolMemory {
  const ints = (length: number) => new Int32Array(new SharedArrayBuffer(4 * length));
  const places = 2 ** Math.ceil(Math.log2(Math.max(1, slots)));
  return { cells: ints(poolCell.length), queue: ints(2 * places), states: ints(slots), failure: readFailure() };
}

/** Has readers look up. */
export function wakePool({ cells }: PoolMemory): void {
  Atomics.add(cells, poolCell.wake, 1);
  Atomics.notify(cells, poolCell.wake);
}

/** Where the pair of a read is in the queue. Counters overflow, which does no harm: there is a power of two of places. */
export function queuePlace(queue: Int32Array, counter: number): number {
  return 2 * (counter & (queue.length / 2 - 1));
}
