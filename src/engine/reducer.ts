/**
 * Adds up, behind a block, what the ranks computed of it. A lane has at most one sum on its way; several lanes let one
 * group of tokens be computed while the sums of another travel.
 */
export interface Reducer {
  /** Whether blocks have to be separate graphs for it. */
  readonly separates: boolean;
  /** How many groups the tokens of a step are divided into, at most. */
  readonly lanes: number;
  /** Starts adding up `partial`, in place. It must not be touched before `wait`. */
  start(lane: number, partial: Float32Array): void;
  /**
   * Waits for the sum that was started last in a lane, if any. Returns false where it is no number: some rank was
   * stopped. Throws `LINK_LOST`.
   */
  wait(lane: number): boolean;
}

/** One rank alone: there is nothing to add. */
export const soloReducer: Reducer = {
  separates: false,
  lanes: 1,
  start() {},
  wait: () => true,
};
