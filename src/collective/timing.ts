/** Milliseconds that an action takes, which blocks. */
export function timed(action: () => void): number {
  const started = performance.now();
  action();
  return performance.now() - started;
}

/** The middle one of some values, one at the least; the upper one of two. */
export function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1]!;
}
