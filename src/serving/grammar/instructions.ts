/** Operations of instructions. The next instruction follows, unless the operation says otherwise. */
export const operation = {
  /** Takes a byte from `first` to `second`. */
  byte: 0,
  /** Goes on at `first`, and at `second` as well. */
  split: 1,
  jump: 2,
  /** Goes through the rule with the number `first`. */
  call: 3,
  /** The rule ends. */
  return: 4,
  /** Nothing matches. */
  fail: 5,
} as const;

/** A grammar over the bytes of UTF-8, as instructions of an automaton with a stack. */
export interface Program {
  /** Of each instruction: its operation and operands. */
  readonly operations: Uint8Array;
  readonly first: Int32Array;
  readonly second: Int32Array;
  /** Where each rule begins, in ascending order; it ends where the next begins. */
  readonly entries: Int32Array;
}
