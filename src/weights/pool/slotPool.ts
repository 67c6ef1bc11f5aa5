import type { Pointer, Tensor } from "../../native/ggml.ts";
import { clearFailure, readerFailure } from "../window/readFailure.ts";
import { awaitReaders } from "../window/waiting.ts";
import type { WindowMemory } from "../window/windowMemory.ts";
import type { ExpertPool, WantedUnits } from "./expertPool.ts";
import {
  hasRoom,
  type PoolMemory,
  phaseOf,
  poolCell,
  queueField,
  queuePlace,
  slotPhase,
  slotState,
  wakePool,
} from "./poolMemory.ts";
import { Retention, weightOfUse } from "./retention.ts";
import type { SlotClass } from "./slots.ts";

/** What a `SlotPool` consists of. */
export interface PoolParts {
  readonly classes: readonly SlotClass[];
  /** Of the first slot of the first class. */
  readonly address: Pointer;
  readonly memory: PoolMemory;
  readonly readers: WindowMemory;
  /** By unit: the pieces that it is read in. */
  readonly pieces: Int32Array;
  /** Tells the tensors of a unit's class that it lies there. */
  readonly place: (unit: number, address: Pointer) => void;
  /** A tensor of a unit's class, by its role, such as `ffn_up_exps.weight`; and see `ExpertPool.stack`. */
  readonly tensor: (unit: number, role: string) => Tensor;
  readonly stack: (unit: number, role: string) => Tensor | undefined;
  /** What experts are read from, for messages. */
  readonly path: string;
  /** Whether to stop waiting. */
  readonly stopped: () => boolean;
}

/** Slots of one class. */
interface Shelf {
  readonly address: Pointer;
  readonly slotBytes: number;
  /** Index of its first slot among all. */
  readonly first: number;
  /** Slots that hold nothing. */
  readonly free: number[];
  /** Decides which unit gives up its slot. Units that are wanted, expected or being read are withdrawn from it. */
  readonly retention: Retention;
}

/** Slots that a prompt's experts take turns in: enough to keep the readers busy, few enough to keep the others' contents. */
const passingSlots = 8;
/** Guesses are judged by about this many of the last reads ahead. They are followed if this part of those was used. */
const lastReads = 64;
const leastTrust = 0.5;
/** If guesses are not trusted, one of this many is still followed, to see whether they have become better. */
const doubted = 16;

/**
 * Slots for experts that do not all fit memory, whatever layer they are of. `Retention` says which one makes room for what
 * is missing. A prompt scans more experts than there are slots: its misses take turns in a few slots, and the others keep
 * what is used more often.
 */
export class SlotPool implements ExpertPool {
  readonly reads = true;
  readonly slots: number;
  readonly #parts: PoolParts;
  readonly #shelves: readonly Shelf[];
  readonly #shelfOf: readonly Shelf[];
  /** By unit: its slot among all; -1 if it has none. */
  readonly #slotOf: Int32Array;
  /** By slot: number of its last read. */
  readonly #tickets: Int32Array;
  /** By unit: 1 from `begin` to `release`; of those, 1 if it took the place of another one in a prompt. */
  readonly #wants: Uint8Array;
  readonly #passing: Uint8Array;
  #passingCount = 0;
  /** By unit: 1 from the request to read it ahead until it is wanted, or turns out to be of no use. */
  readonly #ahead: Uint8Array;
  /** Units that `begin` has named and that were not released. */
  readonly #wanted: number[] = [];
  /** Of those, the ones that have no slot yet; whose reads have not ended; and that were not told yet. */
  readonly #missing: number[] = [];
  readonly #reading: number[] = [];
  readonly #ready: number[] = [];
  /** Units in slots that are not wanted but keep them for now: they are being read, or expected. */
  readonly #loose: number[] = [];
  /** Units that are to be read if there is time; and by unit: 1 if it is about to be one of those that are expected. */
  readonly #expected: number[] = [];
  readonly #expects: Uint8Array;
  #passes = false;
  /** Of the current pass. */
  #tokens = 1;
  #ticket = 0;
  /** Part of the last reads ahead that was used, 0 to 1; and number of guesses that were not trusted. */
  #trust = 1;
  #guesses = 0;
  #hits = 0;
  #misses = 0;
  #readAhead = 0;
  #bytesRead = 0;
  #waitMs = 0;

  constructor(parts: PoolParts) {
    const { classes, address, pieces } = parts;
    this.#parts = parts;
    let first = 0;
    this.#shelves = classes.map(({ offset, slotBytes, slots }) => {
      const free = Array.from({ length: slots }, (_, slot) => first + slots - 1 - slot);
      const shelf = {
        address: address + BigInt(offset),
        slotBytes,
        first,
        free,
        retention: new Retention(pieces.length),
      };
      first += slots;
      return shelf;
    });
    this.slots = first;
    const shelfOf: Shelf[] = [];
    for (const [i, { units }] of classes.entries()) for (const unit of units) shelfOf[unit] = this.#shelves[i]!;
    this.#shelfOf = shelfOf;
    this.#slotOf = new Int32Array(pieces.length).fill(-1);
    this.#tickets = new Int32Array(first);
    this.#wants = new Uint8Array(pieces.length);
    this.#passing = new Uint8Array(pieces.length);
    this.#ahead = new Uint8Array(pieces.length);
    this.#expects = new Uint8Array(pieces.length);
  }

  get hits(): number {
    return this.#hits;
  }

  get misses(): number {
    return this.#misses;
  }

  get readAhead(): number {
    return this.#readAhead;
  }

  get bytesRead(): number {
    return this.#bytesRead;
  }

  get waitMs(): number {
    return this.#waitMs;
  }

  get classes(): number {
    return this.#shelves.length;
  }

  classOf(unit: number): number {
    return this.#shelves.indexOf(this.#shelfOf[unit]!);
  }

  pass(tokens: number): void {
    this.#tokens = tokens;
    for (const { retention } of this.#shelves) retention.pass();
  }

  begin({ units, count, uses, passes, expected, expectedCount }: WantedUnits): void {
    this.#passes = passes;
    for (const unit of this.#wanted) if (this.#slotOf[unit]! >= 0) this.#loose.push(unit);
    for (const unit of this.#wanted) this.#wants[unit] = this.#passing[unit] = 0;
    this.#passingCount = 0;
    this.#wanted.length = this.#ready.length = this.#missing.length = this.#reading.length = this.#expected.length = 0;
    for (let i = 0; i < count; i++) this.#want(units[i]!, weightOfUse(uses[i]!, this.#tokens));
    const followed = this.#follows() ? expectedCount : 0;
    for (let i = 0; i < followed; i++) this.#expects[expected[i]!] = 1;
    this.#settle(true);
    for (let i = 0; i < followed; i++) this.#expect(expected[i]!);
    this.#readMissing();
  }

  next(waits = true): number {
    const ready = this.#ready.pop() ?? this.#arrived();
    if (ready !== undefined) return ready;
    return waits && this.#reading.length + this.#missing.length > 0 ? this.#await() : -1;
  }

  place(unit: number): void {
    const { address, slotBytes } = this.#shelfOf[unit]!;
    this.#parts.place(unit, address + BigInt(this.slotOf(unit) * slotBytes));
  }

  tensor(unit: number, role: string): Tensor {
    return this.#parts.tensor(unit, role);
  }

  stack(unit: number, role: string): Tensor | undefined {
    return this.#parts.stack(unit, role);
  }

  slotOf(unit: number): number {
    return this.#slotOf[unit]! - this.#shelfOf[unit]!.first;
  }

  release(unit: number): void {
    this.#wanted.splice(this.#wanted.indexOf(unit), 1);
    this.#passingCount -= this.#passing[unit]!;
    this.#wants[unit] = this.#passing[unit] = 0;
    this.#shelfOf[unit]!.retention.offer(unit);
    this.#readMissing();
  }

  /** True if guesses are worth it, or it is time to see again whether they are. */
  #follows(): boolean {
    return this.#trust >= leastTrust || this.#guesses++ % doubted === 0;
  }

  /** Keeps a unit in memory if it is there, or has it read if there is time. */
  #expect(unit: number): void {
    this.#expects[unit] = 0;
    if (this.#slotOf[unit]! < 0) this.#expected.push(unit);
    else if (this.#shelfOf[unit]!.retention.withdraw(unit)) this.#loose.push(unit);
  }

  #want(unit: number, weight: number): void {
    const { retention } = this.#shelfOf[unit]!;
    this.#wants[unit] = 1;
    this.#wanted.push(unit);
    retention.withdraw(unit);
    retention.use(unit, weight);
    if (this.#slotOf[unit]! < 0) this.#missing.push(unit);
    else (this.#phaseOf(unit) === slotPhase.ready ? this.#ready : this.#reading).push(unit);
    if (this.#slotOf[unit]! >= 0 && this.#ahead[unit] === 0) this.#hits++;
    else this.#misses++;
    this.#readAhead += this.#ahead[unit]!;
    this.#countAhead(unit, true);
  }

  /** Counts a unit that was read ahead, as soon as that is not taken back any more. @param wanted - whether it was of use */
  #countAhead(unit: number, wanted: boolean): void {
    if (this.#ahead[unit] === 0) return;
    this.#ahead[unit] = 0;
    this.#bytesRead += this.#shelfOf[unit]!.slotBytes;
    this.#trust += ((wanted ? 1 : 0) - this.#trust) / lastReads;
  }

  /** Reads missing units as far as there are slots that are not in use, and then those that are expected. */
  #readMissing(): void {
    for (let unit = this.#missing[0]; unit !== undefined; unit = this.#missing[0]) {
      if (!this.#read(unit)) return;
      this.#missing.shift();
      this.#bytesRead += this.#shelfOf[unit]!.slotBytes;
      this.#reading.push(unit);
    }
    for (let unit = this.#expected[0]; unit !== undefined && hasRoom(this.#parts.memory); unit = this.#expected[0]) {
      if (this.#slotOf[unit]! < 0) {
        if (!this.#read(unit)) return;
        this.#ahead[unit] = 1;
        this.#loose.push(unit);
      }
      this.#expected.shift();
    }
  }

  /** A slot to read a unit into; -1 while all candidates are in use. */
  #slotFor(unit: number): number {
    const { free, retention } = this.#shelfOf[unit]!;
    const empty = free.pop();
    if (empty !== undefined) return empty;
    const replaced = retention.least;
    if (replaced < 0 || (this.#passes && this.#passingCount >= passingSlots)) return -1;
    if (this.#passes) {
      this.#passing[unit] = 1;
      this.#passingCount++;
    }
    retention.withdraw(replaced);
    return this.#empty(replaced);
  }

  /** Takes a unit's slot away. Returns the slot. */
  #empty(unit: number): number {
    const slot = this.#slotOf[unit]!;
    this.#slotOf[unit] = -1;
    this.#ahead[unit] = 0;
    return slot;
  }

  /** Asks for a unit. Returns false if there is no slot for it. */
  #read(unit: number): boolean {
    const slot = this.#slotFor(unit);
    if (slot < 0) return false;
    const { memory, pieces } = this.#parts;
    const { cells, queue, states, left, faults } = memory;
    const count = pieces[unit]!;
    this.#ticket = (this.#ticket + 1) & 0x1fffffff;
    this.#slotOf[unit] = slot;
    this.#tickets[slot] = this.#ticket;
    Atomics.store(left, slot, count);
    Atomics.store(faults, slot, 0);
    Atomics.store(states, slot, slotState(this.#ticket, slotPhase.waiting));
    for (let piece = 0; piece < count; piece++) {
      const at = queuePlace(queue, Atomics.load(cells, poolCell.asked));
      queue[at + queueField.unit] = unit;
      queue[at + queueField.slot] = slot;
      queue[at + queueField.piece] = piece;
      queue[at + queueField.ticket] = this.#ticket;
      Atomics.add(cells, poolCell.asked, 1);
    }
    wakePool(memory);
    return true;
  }

  #phaseOf(unit: number): number {
    return phaseOf(Atomics.load(this.#parts.memory.states, this.#slotOf[unit]!));
  }

  /**
   * Lets loose units make room whose reads have ended and that are not expected.
   *
   * @param takesBack - whether to take back reads that have not begun; they are asked for again if still expected
   */
  #settle(takesBack: boolean): void {
    let kept = 0;
    for (const unit of this.#loose)
      if (this.#wants[unit] === 0 && !this.#settled(unit, takesBack)) this.#loose[kept++] = unit;
    this.#loose.length = kept;
  }

  #settled(unit: number, takesBack: boolean): boolean {
    const { retention, free } = this.#shelfOf[unit]!;
    if (takesBack && this.#takeBack(unit)) {
      free.push(this.#empty(unit));
      return true;
    }
    const phase = this.#phaseOf(unit);
    if (phase === slotPhase.waiting || phase === slotPhase.reading) return false;
    if (phase === slotPhase.ready && this.#expects[unit] === 1) return false;
    this.#countAhead(unit, false);
    if (phase === slotPhase.ready) retention.offer(unit);
    else free.push(this.#empty(unit));
    return true;
  }

  /** Takes a read back if it has not begun. */
  #takeBack(unit: number): boolean {
    const slot = this.#slotOf[unit]!;
    const waiting = slotState(this.#tickets[slot]!, slotPhase.waiting);
    const taken = slotState(this.#tickets[slot]!, slotPhase.failed);
    return Atomics.compareExchange(this.#parts.memory.states, slot, waiting, taken) === waiting;
  }

  /** A unit whose read has ended. */
  #arrived(): number | undefined {
    for (let i = 0; i < this.#reading.length; i++) {
      const unit = this.#reading[i]!;
      const phase = this.#phaseOf(unit);
      if (phase !== slotPhase.ready && phase !== slotPhase.failed) continue;
      this.#reading.splice(i, 1);
      if (phase === slotPhase.ready) return unit;
      this.#fail(unit);
    }
    return undefined;
  }

  #await(): number {
    const started = performance.now();
    const { readers: memory, stopped, path } = this.#parts;
    let arrived: number | undefined;
    const reached = () => {
      // What is missing may wait for the slot of a unit that nobody wants.
      if (this.#missing.length > 0) this.#settle(false);
      this.#readMissing();
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
    const { failure } = this.#parts.memory;
    this.#shelfOf[unit]!.free.push(this.#empty(unit));
    const reason = readerFailure(failure);
    if (reason !== undefined) {
      clearFailure(failure);
      throw reason;
    }
    this.#missing.push(unit);
    this.#readMissing();
  }
}
