/** Blocks lie on multiples of it, on the disk and in memory, as direct I/O wants. */
export const pageBytes = 4096;

/** Rounds up to a multiple of `step`. */
export function roundUp(value: number, step: number): number {
  return Math.ceil(value / step) * step;
}
