import {
  diskMsOf,
  isStreamed,
  type PassTiming,
  slowest,
  stepBounds,
  type TimedDevice,
  type WindowRule,
} from "./passTiming.ts";

/** Relative room for rounding: a condition that holds with equality holds. */
const tolerance = 1e-9;

/**
 * The tight condition, generalized: on every device, each streamed block can be read from when the streamed block before
 * it may be computed, the earliest, to when it may be computed itself. What lies between them, pinned blocks, sums and
 * the border of passes included, is time to read in. It implies `isSteady` where the ring holds any two streamed blocks
 * that follow on each other, and rooms are free at once.
 */
export function isTightlySteady(step: PassTiming): boolean {
  const times = chainOf(step);
  return step.devices.every((device) => {
    const streamed = streamedOf(device);
    return streamed.every((block, i) => {
      const before = streamed.at(i - 1)!;
      const from = times.start[before]! - (i === 0 ? times.stepMs : 0);
      return times.start[block]! - from >= loadMs(device, block) - tolerance * times.stepMs;
    });
  });
}

/**
 * The loose condition, generalized: whether no device ever waits for its disk once its ring has filled, so that a pass
 * takes no longer than computing and sums. Exact, for blocks of any sizes, pinned ones, unequal devices, and rings of any
 * size that hold the largest block: with the times that computing and sums set, the reading of every block, which begins
 * when the one before has been read and the ring has room, ends in time.
 */
export function isSteady(step: PassTiming, rule: WindowRule = {}): boolean {
  const chain = chainOf(step);
  return step.devices.every((device) => {
    const slack = tolerance * chain.stepMs;
    if (diskMsOf(device) > chain.stepMs + slack) return false;
    return readsInTime(device, chain, rule, slack);
  });
}

/** When blocks are computed where nobody waits for a disk. */
interface Chain {
  /** By block, from the start of the pass. */
  readonly start: readonly number[];
  readonly stepMs: number;
}

function chainOf(step: PassTiming): Chain {
  const { computeMs, networkMs } = stepBounds(step);
  let now = 0;
  const start = step.syncMs.map((syncMs, i) => {
    const started = now;
    now += slowest(step, i) + syncMs;
    return started;
  });
  return { start, stepMs: computeMs + networkMs };
}

/**
 * Two rounds tell: what was read a whole round ago does not delay anything, since a round of reading is no longer than
 * a pass.
 */
function readsInTime(device: TimedDevice, chain: Chain, rule: WindowRule, slack: number): boolean {
  const streamed = streamedOf(device);
  let readAt = Number.NEGATIVE_INFINITY;
  for (let count = 0; count < 2 * streamed.length; count++) {
    const block = streamed[count % streamed.length]!;
    const from = Math.max(readAt, roomAt(device, streamed, chain, count, rule));
    readAt = from + loadMs(device, block);
    if (readAt > startOf(chain, streamed, count) + slack) return false;
  }
  return true;
}

/** When there is room for streamed block number `count`: as that of the last block that has to leave for it is free. */
function roomAt(
  device: TimedDevice,
  streamed: readonly number[],
  chain: Chain,
  count: number,
  rule: WindowRule,
): number {
  const leaver = lastLeaver(device, streamed, count, rule.windowBlocks ?? Number.POSITIVE_INFINITY);
  if (leaver === undefined) return Number.NEGATIVE_INFINITY;
  const left = streamed[modulo(leaver, streamed.length)]!;
  const next = (left + 1) % device.blocks.length;
  const rounds = Math.floor(leaver / streamed.length) + (rule.free === "late" && next === 0 ? 1 : 0);
  const freeing = rule.free === "late" ? next : left;
  return rounds * chain.stepMs + chain.start[freeing]! + device.blocks[freeing]!.computeMs;
}

/** Number of the last streamed block that cannot stay in the ring beside number `count` and what is between them. */
function lastLeaver(device: TimedDevice, streamed: readonly number[], count: number, mostBlocks: number) {
  let bytes = 0;
  for (let number = count; number > count - 2 * streamed.length; number--) {
    bytes += device.blocks[streamed[modulo(number, streamed.length)]!]!.bytes;
    if (number < count && (bytes > device.ringBytes || count - number >= mostBlocks)) return number;
  }
  return undefined;
}

function startOf(chain: Chain, streamed: readonly number[], count: number): number {
  return Math.floor(count / streamed.length) * chain.stepMs + chain.start[streamed[count % streamed.length]!]!;
}

function streamedOf({ blocks }: TimedDevice): number[] {
  return blocks.flatMap((block, i) => (isStreamed(block) ? [i] : []));
}

function loadMs({ blocks, diskBytesPerMs }: TimedDevice, block: number): number {
  return blocks[block]!.bytes / diskBytesPerMs;
}

function modulo(value: number, divisor: number): number {
  return ((value % divisor) + divisor) % divisor;
}

/** Blocks that are all alike, in milliseconds, and a window of so many of them. */
export interface UniformBlocks {
  readonly computeMs: number;
  /** Behind each block. */
  readonly syncMs: number;
  /** Reading one. */
  readonly loadMs: number;
  /** At least 1; at least 2 where rooms are free late. */
  readonly windowBlocks: number;
  readonly free?: WindowRule["free"];
}

/**
 * Milliseconds per block in the long run: a block is computed and summed, or read, or, where the window is too small to
 * do both at a time, its room is read into and computed from in turn with the window's others.
 */
export function uniformBlockMs({ computeMs, syncMs, loadMs, windowBlocks, free = "at-once" }: UniformBlocks): number {
  const rooms = free === "late" ? windowBlocks - 1 : windowBlocks;
  return Math.max(computeMs + syncMs, loadMs, (computeMs + loadMs) / rooms);
}
