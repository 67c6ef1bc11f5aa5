import type { Reducer } from "./reducer.ts";

/** Milliseconds since the engine started that went into what a pass is made of. */
export interface StepTimes {
  computeMs: number;
  /** Waiting for weights that are not in memory. */
  diskMs: number;
  /** In sums, but for `waitMs`; ciphers included. */
  wireMs: number;
  cipherMs: number;
  /** Until the first byte came from a rank that was due. */
  waitMs: number;
}

const noTimes: Readonly<StepTimes> = { computeMs: 0, diskMs: 0, wireMs: 0, cipherMs: 0, waitMs: 0 };

/** What the times of a block are kept as, in this order: they follow on each other, and exclude each other. */
export const profiledParts = ["compute", "disk", "wire", "cipher", "wait"] as const;

/** What the main thread sees of the last pass: shared memory. */
export interface ProfileMemory {
  /** Passes so far, and blocks of the last one. */
  readonly counts: Int32Array;
  /** Milliseconds of all passes so far, by `profiledParts`. */
  readonly totals: Float64Array;
  /** Milliseconds by `profiledParts`, of block after block. */
  readonly times: Float32Array;
}

/** Allocates what a pass of so many sums leaves behind; its tokens may go in two groups. */
export function profileMemory(sums: number): ProfileMemory {
  return {
    counts: new Int32Array(new SharedArrayBuffer(8)),
    totals: new Float64Array(new SharedArrayBuffer(8 * profiledParts.length)),
    times: new Float32Array(new SharedArrayBuffer(4 * profiledParts.length * (2 * sums + 1))),
  };
}

/**
 * Takes the times of each block of a pass: between sums, of which there is one or more in every block. What another thread
 * does meanwhile does not count, but waiting for it does: as time on the wire.
 */
export class StepProfiler {
  readonly #memory: ProfileMemory;
  readonly #read: (times: StepTimes) => void;
  readonly #step: Float32Array;
  #blocks = 0;
  /** Spent waiting for another thread. */
  #handedMs = 0;
  /** At the end of the block before, and of this one. */
  #before = { ...noTimes };
  #now = { ...noTimes };

  /** @param read - writes the times of now: asked for after every block, so that it makes no objects */
  constructor(memory: ProfileMemory, read: (times: StepTimes) => void) {
    this.#memory = memory;
    this.#read = read;
    this.#step = new Float32Array(memory.times.length);
  }

  /** A pass begins. */
  begin(): void {
    this.#blocks = 0;
    this.#handedMs = 0;
    this.#read(this.#before);
  }

  /** The same reducer, whose sums are taken for the ends of blocks. */
  follow(reducer: Reducer): Reducer {
    const start: Reducer["start"] = (lane, partial, subject) => {
      reducer.start(lane, partial, subject);
      this.#mark();
    };
    return { ...reducer, start, wait: (lane) => this.#wait(reducer, lane) };
  }

  /** The pass has ended, with what came behind the last sum: it can be seen now. */
  end(): void {
    this.#mark();
    const { counts, times, totals } = this.#memory;
    times.set(this.#step);
    for (let i = 0; i < this.#blocks * profiledParts.length; i++) totals[i % profiledParts.length]! += this.#step[i]!;
    counts[1] = this.#blocks;
    Atomics.add(counts, 0, 1);
  }

  #wait(reducer: Reducer, lane: number): boolean {
    const started = performance.now();
    try {
      return reducer.wait(lane);
    } finally {
      this.#handedMs += performance.now() - started;
    }
  }

  #mark(): void {
    const offset = this.#blocks * profiledParts.length;
    if (offset >= this.#step.length) return;
    const [now, before] = [this.#now, this.#before];
    this.#read(now);
    const cipher = now.cipherMs - before.cipherMs;
    this.#step[offset] = now.computeMs - before.computeMs;
    this.#step[offset + 1] = now.diskMs - before.diskMs;
    this.#step[offset + 2] = Math.max(0, now.wireMs - before.wireMs - cipher) + this.#handedMs;
    this.#step[offset + 3] = cipher;
    this.#step[offset + 4] = now.waitMs - before.waitMs;
    this.#before = now;
    this.#now = before;
    this.#handedMs = 0;
    this.#blocks++;
  }
}

/** The times of the last pass, (parts, blocks); empty where there was none. */
export function readProfile({ counts, times }: ProfileMemory): Float32Array {
  for (;;) {
    const step = Atomics.load(counts, 0);
    const read = times.slice(0, counts[1]! * profiledParts.length);
    if (Atomics.load(counts, 0) === step) return read;
  }
}

/** Milliseconds of all passes so far, as figures that a device tells of itself. */
export function profileFigures({ totals }: ProfileMemory): Record<string, number> {
  return Object.fromEntries(profiledParts.map((part, i) => [stepFigure(part), totals[i]!]));
}

/** What a part of passes is called among a device's figures, such as `stepDiskMs`. */
export function stepFigure(part: (typeof profiledParts)[number]): string {
  return `step${part[0]!.toUpperCase()}${part.slice(1)}Ms`;
}
