/** Figures of devices, rank 0's first; the last one holds for all further devices. */
export type DeviceFigures = readonly number[];

/** The figure of device `rank`. */
export function figureOf(figures: DeviceFigures, rank: number): number {
  return figures[Math.min(rank, figures.length - 1)]!;
}
