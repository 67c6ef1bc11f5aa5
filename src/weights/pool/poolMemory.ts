import { type ReadFailure, readFailure } from "../window/readFailure.ts";

/** Memory that the engine thread shares with the threads that read experts: a queue of reads, and what became of each. */
export interface PoolMemory {
  /** See `poolCell`. */
  readonly cells: Int32Array;
  /** A ring of reads, each of one piece of a unit into its slot: see `queueField`. */
  readonly queue: Int32Array;
  /** By slot: what it holds; see `slotState`. */
  readonly states: Int32Array;
  /** By slot: pieces of its unit that were not read yet, and 1 if one of them could not be read. */
  readonly left: Int32Array;
  readonly faults: Int32Array;
  /** Why a read failed that nobody has heard of. That of a block is no concern of experts, nor the other way round. */
  readonly failure: ReadFailure;
}

/** Indices into `cells`. */
export const poolCell = {
  /** Pieces that were asked for. */
  asked: 0,
  /** Pieces that a reader has taken. */
  taken: 1,
  /** Changes whenever readers have reason to look up. */
  wake: 2,
  length: 3,
} as const;

/** The numbers of a piece in the queue. */
export const queueField = { unit: 0, slot: 1, piece: 2, ticket: 3, length: 4 } as const;

/** What becomes of a unit in a slot. A read that has not begun can be taken back. */
export const slotPhase = { waiting: 0, reading: 1, ready: 2, failed: 3 } as const;

/** The state of a slot in a phase of the read with this number: one that was taken back is not mistaken for the next. */
export function slotState(ticket: number, phase: number): number {
  return (ticket << 2) | phase;
}

/** The phase of a slot's state. */
export function phaseOf(state: number): number {
  return state & 3;
}

/** Allocates the memory for so many slots. @param pieces - most pieces of a unit */
export function poolMemory(slots: number, pieces: number): PoolMemory {
  const ints = (length: number) => new Int32Array(new SharedArrayBuffer(4 * length));
  // Room besides for reads that were taken back and are not passed over yet.
  const places = 2 ** Math.ceil(Math.log2(Math.max(1, 4 * slots * pieces)));
  return {
    cells: ints(poolCell.length),
    queue: ints(queueField.length * places),
    states: ints(slots),
    left: ints(slots),
    faults: ints(slots),
    failure: readFailure(),
  };
}

/** True if half of the queue is free: that much is left for reads that cannot be done without. */
export function hasRoom({ cells, queue }: PoolMemory): boolean {
  const waiting = (Atomics.load(cells, poolCell.asked) - Atomics.load(cells, poolCell.taken)) | 0;
  return 2 * queueField.length * waiting < queue.length;
}

/** Has readers look up. */
export function wakePool({ cells }: PoolMemory): void {
  Atomics.add(cells, poolCell.wake, 1);
  Atomics.notify(cells, poolCell.wake);
}

/** Where a piece is in the queue. Counters overflow, which does no harm: there is a power of two of places. */
export function queuePlace(queue: Int32Array, counter: number): number {
  return queueField.length * (counter & (queue.length / queueField.length - 1));
}
