import type { Pointer } from "../native/ggml.ts";

/**
 * What a rank computed of a block, for some tokens: to be replaced by the sum over all ranks. Sums are prepared for each
 * array, so the same values are better given in the same array.
 */
export interface PartialSums {
  readonly values: Float32Array;
  /** Where they are, for other threads of this process. */
  readonly address: Pointer;
  /** True if they are added up in f32, whatever the wire type: a few values that steer what is computed next. */
  readonly exact: boolean;
}

/**
 * Adds up, behind a block, what the ranks computed of it. A lane has at most one sum on its way; several lanes let one
 * group of tokens be computed while the sums of another travel.
 */
export interface Reducer {
  /** True if blocks have to be separate graphs for it. */
  readonly separates: boolean;
  /** How many groups the tokens of a pass are divided into, at most. */
  readonly lanes: number;
  /** Begins a pass of `tokens` tokens. Returns the number of groups they are divided into: the same on all ranks. */
  begin(tokens: number): number;
  /**
   * Starts adding up `partial`, in place. It must not be touched before `wait`.
   *
   * @param subject - what it is of, for a trace: see `blockSubject`
   */
  start(lane: number, partial: PartialSums, subject: number): void;
  /**
   * Waits for the sum that was started last in a lane, if any. Returns false where it is no number: some rank was
   * stopped. Throws `LINK_LOST`.
   */
  wait(lane: number): boolean;
  /** Replaces `bytes` by those of one rank. All ranks call it, with as many. Throws `LINK_LOST`. */
  broadcast(rank: number, bytes: Uint8Array): void;
}

/** One rank alone: there is nothing to add. */
export const soloReducer: Reducer = {
  separates: false,
  lanes: 1,
  begin: () => 1,
  start() {},
  wait: () => true,
  broadcast() {},
};
