import { isStreamed, type PassTiming, type TimedDevice, type WindowRule } from "./passTiming.ts";

/** How long to simulate. */
export interface SimulationOptions extends WindowRule {
  /** Passes that are not counted: in the first ones the ring has yet to fill. Default 16. */
  readonly skip?: number;
  /** Passes that are counted. Default 8. */
  readonly steps?: number;
  /** True if the ring is filled before the first pass begins. Default: it begins empty. */
  readonly filled?: boolean;
}

/** What a device did, in milliseconds per pass. */
export interface DeviceTimes {
  readonly computeMs: number;
  /** Reading. */
  readonly diskMs: number;
  /** Not computing since the next block had not been read. */
  readonly diskWaitMs: number;
  /** Not computing since other devices still were. */
  readonly peerWaitMs: number;
}

/** How the counted passes went. */
export interface SimulationResult {
  /** Milliseconds per pass. */
  readonly stepMs: number;
  /** By rank. */
  readonly devices: readonly DeviceTimes[];
}

/**
 * Plays passes event by event: each device computes a block when all are done with the one before and it has been read;
 * a loader reads the streamed blocks in order, round and round, each as soon as the ring has room for all of it.
 * Throws `RangeError` where a ring cannot hold what its rule requires to go on.
 */
export function simulate(step: PassTiming, options: SimulationOptions = {}): SimulationResult {
  const { skip = 16, steps = 8, filled = false } = options;
  const devices = step.devices.map((device) => new Device(device, options));
  if (filled) for (const device of devices) device.fill();
  const simulation = new Simulation(step, devices);
  const started = simulation.run(skip);
  const before = devices.map((device) => ({ ...device.times }));
  const ended = simulation.run(steps);
  const perStep = (device: Device, i: number) => mapTimes((key) => (device.times[key] - before[i]![key]) / steps);
  return { stepMs: (ended - started) / steps, devices: devices.map(perStep) };
}

const timeNames = ["computeMs", "diskMs", "diskWaitMs", "peerWaitMs"] as const;
type TimeName = (typeof timeNames)[number];

function mapTimes(value: (key: TimeName) => number): Record<TimeName, number> {
  return Object.fromEntries(timeNames.map((key) => [key, value(key)])) as Record<TimeName, number>;
}

/** The devices and the clock that they share. Blocks are counted over all passes. */
class Simulation {
  readonly #step: PassTiming;
  readonly #devices: readonly Device[];
  /** Block that all devices may compute, or are at. */
  #block = 0;
  #now = 0;
  /** When the sum behind the block is there; infinite while some device still computes. */
  #syncEnd = Number.POSITIVE_INFINITY;

  constructor(step: PassTiming, devices: readonly Device[]) {
    this.#step = step;
    this.#devices = devices;
    for (const device of devices) device.begin(0, 0);
  }

  /** Plays so many further passes and returns the time at which the last one ended. */
  run(steps: number): number {
    const end = this.#block + steps * this.#step.syncMs.length;
    while (this.#block < end) this.#advance();
    return this.#now;
  }

  /** Goes to the next event and does all that follows from it at once. */
  #advance(): void {
    const events = this.#devices.flatMap((device) => [device.loadEnd, device.computeEnd]);
    const now = Math.min(this.#syncEnd, ...events);
    if (now === Number.POSITIVE_INFINITY) throw new RangeError("a ring is too small for its blocks");
    this.#now = now;
    for (const device of this.#devices) device.finish(now);
    if (this.#syncEnd <= now) this.#nextBlock();
    else if (this.#syncEnd === Number.POSITIVE_INFINITY && this.#devices.every((device) => device.done > this.#block)) {
      this.#syncEnd = now + this.#step.syncMs[this.#block % this.#step.syncMs.length]!;
      for (const device of this.#devices) device.released(now);
    }
  }

  #nextBlock(): void {
    this.#block++;
    this.#syncEnd = Number.POSITIVE_INFINITY;
    for (const device of this.#devices) device.begin(this.#block, this.#now);
  }
}

/** One device: what it computes, what it reads, and what is in its ring. */
class Device {
  readonly times = mapTimes(() => 0);
  loadEnd = Number.POSITIVE_INFINITY;
  computeEnd = Number.POSITIVE_INFINITY;
  /** Blocks computed. */
  done = 0;
  readonly #device: TimedDevice;
  readonly #late: boolean;
  readonly #mostBlocks: number;
  /** Indices of the blocks that are read, in order. */
  readonly #streamed: readonly number[];
  /** Streamed blocks read, and those whose reading has begun. */
  #loaded = 0;
  #begun = 0;
  /** Streamed blocks computed, and those whose room is free again. */
  #computed = 0;
  #freed = 0;
  #usedBytes = 0;
  /** Since when it waits for its disk, or for other devices. */
  #waitsSince = 0;
  /** The block that may be computed and has not been read yet. */
  #awaited: number | undefined;

  constructor(device: TimedDevice, { free = "at-once", windowBlocks }: WindowRule) {
    this.#device = device;
    this.#late = free === "late";
    this.#mostBlocks = windowBlocks ?? Number.POSITIVE_INFINITY;
    this.#streamed = device.blocks.flatMap((block, i) => (isStreamed(block) ? [i] : []));
    this.#startLoad(0);
  }

  /** Reads, before anything is computed and in no time, until the ring has no room for more. */
  fill(): void {
    while (this.loadEnd !== Number.POSITIVE_INFINITY) this.#finishLoad(0);
    this.times.diskMs = 0;
  }

  /** Begins to compute a block, or to wait for it. */
  begin(block: number, now: number): void {
    this.#awaited = block;
    this.#waitsSince = now;
    this.#startCompute(now);
  }

  /** Does what ends by now: reading first, so that what it makes possible happens at the same time. */
  finish(now: number): void {
    if (this.loadEnd <= now) this.#finishLoad(now);
    if (this.computeEnd <= now) this.#finishCompute(now);
  }

  /** The last device has computed the block. */
  released(now: number): void {
    this.times.peerWaitMs += now - this.#waitsSince;
  }

  #startCompute(now: number): void {
    const block = this.#awaited;
    if (block === undefined) return;
    const next = this.#device.blocks[block % this.#device.blocks.length]!;
    if (isStreamed(next) && this.#loaded <= this.#computed) return;
    this.#awaited = undefined;
    this.times.diskWaitMs += now - this.#waitsSince;
    this.times.computeMs += next.computeMs;
    this.computeEnd = now + next.computeMs;
  }

  #finishCompute(now: number): void {
    const streamed = isStreamed(this.#device.blocks[this.done % this.#device.blocks.length]!);
    this.done++;
    this.computeEnd = Number.POSITIVE_INFINITY;
    this.#waitsSince = now;
    const before = this.#computed;
    if (streamed) this.#computed++;
    this.#freeUpTo(this.#late ? before : this.#computed);
    this.#startLoad(now);
  }

  #freeUpTo(count: number): void {
    for (; this.#freed < count; this.#freed++) this.#usedBytes -= this.#bytesOf(this.#freed);
  }

  #finishLoad(now: number): void {
    this.#loaded++;
    this.loadEnd = Number.POSITIVE_INFINITY;
    this.#startLoad(now);
    this.#startCompute(now);
  }

  #startLoad(now: number): void {
    if (this.#streamed.length === 0 || this.loadEnd !== Number.POSITIVE_INFINITY) return;
    const bytes = this.#bytesOf(this.#begun);
    if (this.#usedBytes + bytes > this.#device.ringBytes || this.#begun - this.#freed >= this.#mostBlocks) return;
    this.#begun++;
    this.#usedBytes += bytes;
    const ms = bytes / this.#device.diskBytesPerMs;
    this.times.diskMs += ms;
    this.loadEnd = now + ms;
  }

  /** Bytes of streamed block number `count`. */
  #bytesOf(count: number): number {
    return this.#device.blocks[this.#streamed[count % this.#streamed.length]!]!.bytes;
  }
}
