import { clearFailure, hasFailed, readerFailure } from "./readFailure.ts";
import { RingCursor, type Visit } from "./ring.ts";
import { awaitReaders } from "./waiting.ts";
import { announce, type WindowMemory, windowCell } from "./windowMemory.ts";

/** Brings the blocks that do not stay in memory to where they are computed from. */
export interface BlockWindow {
  /** Whether a block has to be acquired before it is computed. */
  streams(block: number): boolean;
  /**
   * Waits until a block is in memory, and tells its tensors where. Blocks come fastest in their order, from the last one
   * on to the first. Returns false where it was stopped meanwhile.
   * Throws `FILE_UNREADABLE`, `SLICE_INVALID`; then the block may be asked for again.
   */
  acquire(block: number): boolean;
  /** Frees the room of the block that was acquired last. */
  release(): void;
  /** Milliseconds that blocks were waited for. */
  readonly waitMs: number;
  /** Bytes that were read from disk so far, without those of experts. */
  readonly bytesRead: number;
  /** How much of its room was filled, 0 to 1, when blocks were asked for: their mean so far. */
  readonly filled: number;
}

/** All blocks are in memory: there is nothing to wait for. */
export function residentWindow(bytesRead: () => number): BlockWindow {
  return {
    ...{ streams: () => false, acquire: () => true, release() {}, waitMs: 0, filled: 0 },
    get bytesRead() {
      return bytesRead();
    },
  };
}

/** What a window is made of. */
export interface WindowParts {
  /** The streamed blocks, in order of computing. */
  readonly blocks: readonly number[];
  /** Room of each of those. */
  readonly rooms: readonly number[];
  /** Bytes that are read of each of those. */
  readonly bytes: readonly number[];
  /** Bytes that are read before the first of them. */
  readonly pinnedBytes: number;
  readonly ringBytes: number;
  readonly memory: WindowMemory;
  /** What the blocks are read from, for messages. */
  readonly path: string;
  /** Tells the tensors of a block where they lie in the ring. */
  readonly place: (block: number, offset: number) => void;
  /** Whether to stop waiting. */
  readonly stopped: () => boolean;
}

/** Counters of 32 bits start anew long before they are full. */
const mostPieces = 2 ** 30;

/** The engine's side of a ring that readers fill. */
export class RingWindow implements BlockWindow {
  readonly #parts: WindowParts;
  readonly #turns: ReadonlyMap<number, number>;
  #cursor: RingCursor;
  #visit: Visit;
  #released = 0;
  #waitMs = 0;
  /** Bytes read that are of no more use. */
  #passedBytes: number;
  #asked = 0;
  #filledSum = 0;

  constructor(parts: WindowParts) {
    this.#parts = parts;
    this.#passedBytes = parts.pinnedBytes;
    this.#turns = new Map(parts.blocks.map((block, turn) => [block, turn]));
    this.#cursor = new RingCursor(parts.rooms, parts.ringBytes);
    this.#visit = this.#cursor.next();
  }

  get waitMs(): number {
    return this.#waitMs;
  }

  get bytesRead(): number {
    return Number(Atomics.load(this.#parts.memory.bytes, 0));
  }

  get filled(): number {
    return this.#asked === 0 ? 0 : this.#filledSum / this.#asked;
  }

  streams(block: number): boolean {
    return this.#turns.has(block);
  }

  acquire(block: number): boolean {
    const started = performance.now();
    this.#asked++;
    this.#filledSum += (this.bytesRead - this.#passedBytes) / this.#parts.ringBytes;
    try {
      return this.#reach(this.#turns.get(block)!) && this.#await() && this.#place(block);
    } finally {
      this.#waitMs += performance.now() - started;
    }
  }

  release(): void {
    const { memory } = this.#parts;
    this.#released++;
    this.#passedBytes += this.#parts.bytes[this.#visit.block]!;
    this.#visit = this.#cursor.next();
    Atomics.store(memory.cells, windowCell.released, this.#released);
    announce(memory, windowCell.wake);
  }

  #place(block: number): true {
    this.#parts.place(block, this.#visit.offset);
    return true;
  }

  /**
   * Makes a block's visit the current one. What comes into the ring before it passes unused; if the block is not on its
   * way, as after a step was stopped, the ring starts again with it.
   */
  #reach(turn: number): boolean {
    const { cells, failure } = this.#parts.memory;
    if (hasFailed(failure) || Atomics.load(cells, windowCell.nextPiece) > mostPieces) {
      return this.#restart(turn);
    }
    if (this.#visit.block === turn) return true;
    const ahead = (turn - this.#visit.block + this.#turns.size) % this.#turns.size;
    if (!this.#isOnItsWay(ahead)) return this.#restart(turn);
    for (let passed = 0; passed < ahead; passed++) {
      if (!this.#await()) return false;
      this.release();
    }
    return true;
  }

  /** Whether the visit so many after the one at hand has its room without any other ending. */
  #isOnItsWay(ahead: number): boolean {
    const cursor = this.#cursor.copy();
    let visit = this.#visit;
    for (let passed = 0; passed < ahead; passed++) visit = cursor.next();
    return visit.freed <= this.#released;
  }

  /** Waits until all readers have stopped, and has them start with a block. */
  #restart(turn: number): boolean {
    const { memory, rooms, ringBytes } = this.#parts;
    const { cells, ready, done } = memory;
    const epoch = Atomics.add(cells, windowCell.epoch, 1) + 1;
    announce(memory, windowCell.wake);
    if (!this.#until(() => Atomics.load(cells, windowCell.parked) >= Atomics.load(cells, windowCell.readers)))
      return false;
    for (const index of [windowCell.parked, windowCell.nextPiece, windowCell.released]) Atomics.store(cells, index, 0);
    clearFailure(memory.failure);
    for (const block of this.#parts.blocks) {
      Atomics.store(ready, block, 0);
      Atomics.store(done, block, 0);
    }
    // Before readers go on: what they read from then on is of use.
    this.#passedBytes = this.bytesRead;
    Atomics.store(cells, windowCell.first, turn);
    Atomics.store(cells, windowCell.started, epoch);
    announce(memory, windowCell.wake);
    this.#released = 0;
    this.#cursor = new RingCursor(rooms, ringBytes, turn);
    this.#visit = this.#cursor.next();
    return true;
  }

  /** Waits until the visit at hand has been read. */
  #await(): boolean {
    const { memory, blocks } = this.#parts;
    const { block, lap } = this.#visit;
    return this.#until(() => {
      if (Atomics.load(memory.ready, blocks[block]!) > lap) return true;
      const failure = readerFailure(memory.failure);
      if (failure !== undefined) throw failure;
      return false;
    });
  }

  #until(reached: () => boolean): boolean {
    const { memory, stopped, path } = this.#parts;
    return awaitReaders({ memory, reached, stopped, path });
  }
}
