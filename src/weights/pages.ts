/**
 * Blocks start at multiples of it in slices and in the window. It is a part of the slice format, and what direct reads
 * from disks want of offsets and addresses, whatever size this system's own pages have (`native/pageSize.ts`).
 */
export const pageBytes = 4096;

/** Rounds up to a multiple of `step`. */
export function roundUp(value: number, step: number): number {
  return Math.ceil(value / step) * step;
}
