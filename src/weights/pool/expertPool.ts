import type { Pointer, Tensor } from "../../native/ggml.ts";
import { clearFailure, readerFailure } from "../window/readFailure.ts";
import { awaitReaders } from "../window/waiting.ts";
import type { WindowMemory } from "../window/windowMemory.ts";
import { type PoolMemory, poolCell, queuePlace, slotState, wakePool } from "./poolMemory.ts";
import type { SlotClass } from "./slots.ts";

export interface PoolParts {
  readonly classes: readonly SlotClass[];
  /** Of the first slot of the first class. */
  readonly address: Pointer;
  readonly memory: PoolMemory;
  readonly readers: WindowMemory;
  /** Tells the tensors of a unit's class that it lies there. */
  readonly place: (unit: number, address: Pointer) => void;
  /** A tensor of a unit's class, by its role, such as `ffn_up_exps.weight`. */
  readonly tensor: (unit: number, role: string) => Tensor;
  /** What experts are read from, for messages. */
  readonly path: string;
  /** Whether to stop waiting. */
  readonly stopped: () => boolean;
}

/** The slots of one class, and the units that they hold. */
interface Shelf {
  readonly address: Pointer;
  readonly slotBytes: number;
  /** Index of its first slot among all. */
  readonly first: number;
  /** Slots that hold nothing, counted from the shelf's first one. */
  readonly free: number[];
  /** Slot of a unit, in the order of their last use. */
  readonly held: Map<number, number>;
  /** Units of `held` that a prompt read in place of others and that decoding has not used since. */
  readonly passing: Set<number>;
}

/** Slots that a prompt's experts take turns in: enough to keep the readers busy, few enough to keep the others' contents. */
const passingSlots = 8;

/**
 * Experts that are computed one by one. For one block at a time: `begin` names those that are wanted, `next` tells which
 * can be computed from, those in memory first, and `release` lets their memory go.
 */
export interface ExpertPool {
  /** Number of experts that fit in memory at once. */
  readonly slots: number;
  /** Experts that were wanted and in memory, and those that were not, so far. */
  readonly hits: number;
  readonly misses: number;
  /** Bytes of experts requested from disk so far. */
  readonly bytesRead: number;
  /** Milliseconds that experts were waited for. */
  readonly waitMs: number;
  /** Index of a unit's class: units of one class share tensors. */
  classOf(unit: number): number;
  /**
   * Begins to bring units into memory. What was begun before is over.
   *
   * @param count - of the first ones in `units`
   * @param passes - true if the pass scans more units than there are slots
   */
  begin(units: Int32Array, count: number, passes?: boolean): void;
  /**
   * A wanted unit that is in memory: those that were there first, the others in the order of their coming. Each is told
   * once; -1 if there are no more, and where waiting was stopped. Throws `FILE_UNREADABLE`, `SLICE_INVALID`; then units
   * may be asked for again.
   */
  next(): number;
  /** Tells the tensors of its class where a wanted unit lies. */
  place(unit: number): void;
  /** A tensor of a unit's class, by its role. */
  tensor(unit: number, role: string): Tensor;
  /** A unit was computed from: its memory may be used for others. */
  release(unit: number): void;
}

/**
 * Slots for experts that do not all fit memory. What was used longest ago makes room for what is missing, whatever layer
 * it is of. A prompt scans more experts than there are slots, so plain LRU would never hit: its misses take turns in a few
 * slots, and the other slots keep their contents for the next batch and for decoding.
 */
export class SlotPool implements ExpertPool {
  readonly slots: number;
  readonly #parts: PoolParts;
  readonly #shelves: readonly Shelf[];
  readonly #shelfOf: readonly Shelf[];
  /** Wanted units that are neither in memory nor on their way. */
  readonly #missing: number[] = [];
  /** Wanted units whose reads have not ended. */
  readonly #reading: number[] = [];
  /** Wanted units that were not told yet. */
  readonly #ready: number[] = [];
  readonly #inUse = new Set<number>();
  #passes = false;
  #hits = 0;
  #misses = 0;
  #bytesRead = 0;
  #waitMs = 0;

  constructor(parts: PoolParts) {
    this.#parts = parts;
    let first = 0;
    this.#shelves = parts.classes.map(({ offset, slotBytes, slots }) => {
      const free = Array.from({ length: slots }, (_, slot) => slots - 1 - slot);
      const shelf = {
        address: parts.address + BigInt(offset),
        slotBytes,
        first,
        free,
        held: new Map(),
        passing: new Set<number>(),
      };
      first += slots;
      return shelf;
    });
    this.slots = first;
    const shelfOf: Shelf[] = [];
    for (const [i, { units }] of parts.classes.entries()) for (const unit of units) shelfOf[unit] = this.#shelves[i]!;
    this.#shelfOf = shelfOf;
  }

  get hits(): number {
    return this.#hits;
  }

  get misses(): number {
    return this.#misses;
  }

  get bytesRead(): number {
    return this.#bytesRead;
  }

  get waitMs(): number {
    return this.#waitMs;
  }

  classOf(unit: number): number {
    return this.#shelves.indexOf(this.#shelfOf[unit]!);
  }

  begin(units: Int32Array, count: number, passes = false): void {
    this.#passes = passes;
    this.#inUse.clear();
    this.#ready.length = this.#missing.length = this.#reading.length = 0;
    for (let i = 0; i < count; i++) this.#want(units[i]!);
    this.#readMissing();
  }

  next(): number {
    const ready = this.#ready.pop() ?? this.#arrived();
    if (ready !== undefined) return ready;
    if (this.#reading.length === 0) return -1;
    return this.#await();
  }

  place(unit: number): void {
    const { address, slotBytes, held } = this.#shelfOf[unit]!;
    this.#parts.place(unit, address + BigInt(held.get(unit)! * slotBytes));
  }

  tensor(unit: number, role: string): Tensor {
    return this.#parts.tensor(unit, role);
  }

  release(unit: number): void {
    this.#inUse.delete(unit);
    this.#readMissing();
  }

  #want(unit: number): void {
    const { held, passing } = this.#shelfOf[unit]!;
    const slot = held.get(unit);
    if (slot === undefined) {
      this.#misses++;
      this.#missing.push(unit);
      return;
    }
    this.#inUse.add(unit);
    if (!this.#passes) {
      // The last one of a map is the one that was used last.
      held.delete(unit);
      held.set(unit, slot);
      passing.delete(unit);
    }
    this.#hits++;
    (this.#stateOf(unit) === slotState.ready ? this.#ready : this.#reading).push(unit);
  }

  /** Reads missing units as far as there are slots that are not in use. */
  #readMissing(): void {
    while (this.#missing.length > 0) {
      const unit = this.#missing[0]!;
      const slot = this.#slotFor(unit, this.#shelfOf[unit]!);
      if (slot === undefined) return;
      this.#missing.shift();
      this.#read(unit, slot);
    }
  }

  /** A slot to read a unit into; undefined while all candidates are in use. */
  #slotFor(wanted: number, shelf: Shelf): number | undefined {
    const { free, held, passing } = shelf;
    const empty = free.pop();
    if (empty !== undefined) return empty;
    const replaced =
      this.#replaceable(passing) ?? (this.#passesFully(shelf) ? undefined : this.#replaceable(held.keys()));
    if (replaced === undefined) return undefined;
    const slot = held.get(replaced)!;
    held.delete(replaced);
    passing.delete(replaced);
    if (this.#passes) passing.add(wanted);
    return slot;
  }

  #passesFully({ passing }: Shelf): boolean {
    return this.#passes && passing.size >= passingSlots;
  }

  /** The first unit whose slot can be reused. */
  #replaceable(units: Iterable<number>): number | undefined {
    for (const unit of units) {
      // A read that nobody wants any more ends before its slot is used again.
      if (!this.#inUse.has(unit) && this.#stateOf(unit) !== slotState.reading) return unit;
    }
    return undefined;
  }

  #read(unit: number, slot: number): void {
    const { cells, queue, states } = this.#parts.memory;
    const shelf = this.#shelfOf[unit]!;
    shelf.held.set(unit, slot);
    this.#bytesRead += shelf.slotBytes;
    this.#inUse.add(unit);
    this.#reading.push(unit);
    Atomics.store(states, shelf.first + slot, slotState.reading);
    const at = queuePlace(queue, Atomics.load(cells, poolCell.asked));
    queue[at] = unit;
    queue[at + 1] = shelf.first + slot;
    Atomics.add(cells, poolCell.asked, 1);
    wakePool(this.#parts.memory);
  }

  #stateOf(unit: number): number {
    const { first, held } = this.#shelfOf[unit]!;
    return Atomics.load(this.#parts.memory.states, first + held.get(unit)!);
  }

  /** A unit whose read has ended. */
  #arrived(): number | undefined {
    for (let i = 0; i < this.#reading.length; i++) {
      const unit = this.#reading[i]!;
      const state = this.#stateOf(unit);
      if (state === slotState.reading) continue;
      this.#reading.splice(i, 1);
      if (state === slotState.ready) return unit;
      this.#fail(unit);
    }
    return undefined;
  }

  #await(): number {
    const started = performance.now();
    const { readers: memory, stopped, path } = this.#parts;
    let arrived: number | undefined;
    const reached = () => {
      arrived = this.#arrived();
      return arrived !== undefined;
    };
    try {
      return awaitReaders({ memory, reached, stopped, path }) ? arrived! : -1;
    } finally {
      this.#waitMs += performance.now() - started;
    }
  }

  /**
   * Forgets a unit that could not be read, and says why. If several reads failed at a time, only one of them could: the
   * others are done again.
   */
  #fail(unit: number): void {
    const { free, held, passing } = this.#shelfOf[unit]!;
    const { failure } = this.#parts.memory;
    free.push(held.get(unit)!);
    held.delete(unit);
    passing.delete(unit);
    const reason = readerFailure(failure);
    if (reason !== undefined) {
      clearFailure(failure);
      throw reason;
    }
    this.#missing.push(unit);
    this.#readMissing();
  }
}
