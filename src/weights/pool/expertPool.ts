import type { Tensor } from "../../native/ggml.ts";

/** Units that a block wants. */
export interface WantedUnits {
  /** Only the first `count` ones. */
  readonly units: Int32Array;
  readonly count: number;
  /** By unit in `units`: tokens of the pass that want it. */
  readonly uses: Int32Array;
  /** True if the pass scans more units than there are slots. */
  readonly passes: boolean;
  /** Units that will probably be wanted next, the first `expectedCount` ones; the sooner, the earlier in the list. */
  readonly expected: Int32Array;
  readonly expectedCount: number;
}

/**
 * Experts that are computed one by one, or some at a time. For one block at a time: `begin` names those that are wanted,
 * `next` tells which can be computed from, those in memory first, and `release` lets their memory go.
 */
export interface ExpertPool {
  /** True if they do not all stay in memory. */
  readonly reads: boolean;
  /** Number of experts that fit in memory at once. */
  readonly slots: number;
  /** Experts that were wanted and in memory because of an earlier use, and those that were read, so far. */
  readonly hits: number;
  readonly misses: number;
  /** Of `misses`: those whose reads were asked for before they were wanted. */
  readonly readAhead: number;
  /** Bytes of experts requested from disk so far. */
  readonly bytesRead: number;
  /** Milliseconds that experts were waited for. */
  readonly waitMs: number;
  /** Number of classes, and index of a unit's: units of one class share tensors. */
  readonly classes: number;
  classOf(unit: number): number;
  /** Begins a pass. @param tokens - number of its tokens */
  pass(tokens: number): void;
  /**
   * Begins to bring units into memory. What was begun before is over. Those that are expected are read if nothing that is
   * wanted is left to be read.
   */
  begin(wanted: WantedUnits): void;
  /**
   * A wanted unit that is in memory: those that were there first, the others in the order of their coming. Each is told
   * once; -1 if there are no more, and where waiting was stopped. Throws `FILE_UNREADABLE`, `SLICE_INVALID`; then units
   * may be asked for again.
   *
   * @param waits - whether to wait for one; else -1 also means that none is there yet
   */
  next(waits?: boolean): number;
  /** Tells the tensors of its class where a wanted unit lies. */
  place(unit: number): void;
  /** A tensor of a unit's class, by its role. */
  tensor(unit: number, role: string): Tensor;
  /** (inputs, outputs, slots): the tensors of this role in all slots of a unit's class; undefined if they are not one tensor. */
  stack(unit: number, role: string): Tensor | undefined;
  /** A wanted unit's place in the stack. */
  slotOf(unit: number): number;
  /** A unit was computed from: its memory may be used for others. */
  release(unit: number): void;
}
