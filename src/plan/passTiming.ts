/** A block in one device's pass. */
export interface TimedBlock {
  /** Room in memory, and what is read from the disk where it is not pinned; 0 where the device has no share of it. */
  readonly bytes: number;
  readonly computeMs: number;
  /** True if it is always in memory. */
  readonly pinned: boolean;
}

/** What one device does in every pass. */
export interface TimedDevice {
  /** In order of computing; as many on every device. */
  readonly blocks: readonly TimedBlock[];
  /** Room for blocks that are not pinned, which pass through it in order, pass after pass. */
  readonly ringBytes: number;
  readonly diskBytesPerMs: number;
}

/** A pass as all devices take it together, over and over. */
export interface PassTiming {
  readonly devices: readonly TimedDevice[];
  /**
   * Milliseconds behind each block, from when the slowest device has computed it until all may go on: the all-reduce;
   * behind the last block, what lies between two passes.
   */
  readonly syncMs: readonly number[];
}

/** When the room of a block that was computed is free, and how many blocks the window may hold. */
export interface WindowRule {
  /** `at-once`: as its own computing ends. `late`: as that of the next block does, as in TPI-LLM. Default `at-once`. */
  readonly free?: "at-once" | "late" | undefined;
  /** Most blocks in the window at a time, beside its bytes; no limit if absent. */
  readonly windowBlocks?: number | undefined;
}

/** Milliseconds of a pass, each as if nothing else were to be waited for. */
export interface PassBounds {
  /** Computing, block by block the slowest device's. */
  readonly computeMs: number;
  /** Reading, of the device that takes longest. */
  readonly diskMs: number;
  /** What lies behind the blocks. */
  readonly networkMs: number;
  /** No pass can be shorter: the largest of the three. */
  readonly leastMs: number;
}

/** How long a pass's parts take. */
export function stepBounds(step: PassTiming): PassBounds {
  const computeMs = sum(step.syncMs.map((_, i) => slowest(step, i)));
  const diskMs = Math.max(...step.devices.map(diskMsOf));
  const networkMs = sum(step.syncMs);
  return { computeMs, diskMs, networkMs, leastMs: Math.max(computeMs, diskMs, networkMs) };
}

/** Milliseconds that the slowest device computes block `i`. */
export function slowest(step: PassTiming, i: number): number {
  return Math.max(...step.devices.map(({ blocks }) => blocks[i]!.computeMs));
}

/** Milliseconds in which a device reads all that it streams in one pass. */
export function diskMsOf({ blocks, diskBytesPerMs }: TimedDevice): number {
  return sum(blocks.filter(isStreamed).map(({ bytes }) => bytes / diskBytesPerMs));
}

/** True if a block is read in every pass. */
export function isStreamed({ bytes, pinned }: TimedBlock): boolean {
  return bytes > 0 && !pinned;
}

export function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, value) => total + value, 0);
}
