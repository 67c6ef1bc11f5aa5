import type { Pointer } from "../../native/ggml.ts";
import { NativeBytes } from "../../native/memory.ts";
import type { ReadMap } from "../window/blockMap.ts";
import { PieceReader } from "../window/pieceReader.ts";
import { putFailure } from "../window/readFailure.ts";
import { announce, type WindowMemory, windowCell } from "../window/windowMemory.ts";
import { type PoolMemory, poolCell, queuePlace, slotState } from "./poolMemory.ts";

/** What a reader of experts is started with. Plain data and shared memory: it crosses threads. */
export interface PoolReaderSetup {
  readonly map: ReadMap;
  /** Address of each slot. */
  readonly slots: readonly Pointer[];
  /** Whether to read through the system's cache and leave there what was read. */
  readonly cached: boolean;
  readonly memory: WindowMemory;
  readonly pool: PoolMemory;
}

/** Reads experts that are asked for into their slots, until it is stopped. */
export function runPoolReader(setup: PoolReaderSetup): void {
  const { memory } = setup;
  using reader = new PoolReader(setup);
  try {
    reader.run();
  } catch (error) {
    putFailure(memory.failure, error);
  } finally {
    Atomics.sub(memory.cells, windowCell.expertReaders, 1);
    announce(memory, windowCell.news);
  }
}

class PoolReader implements Disposable {
  readonly #setup: PoolReaderSetup;
  readonly #pieces: PieceReader;
  /** By slot. */
  readonly #rooms = new Map<number, NativeBytes>();
  readonly #roomBytes: number;

  constructor(setup: PoolReaderSetup) {
    const { map, memory } = setup;
    this.#setup = setup;
    // What it reads does not fill the window, whose bytes are counted.
    this.#pieces = new PieceReader(map, { ...memory, bytes: new BigInt64Array(1) }, undefined);
    this.#roomBytes = map.blocks.slice(map.experts).reduce((most, { room }) => Math.max(most, room), 0);
  }

  run(): void {
    const { memory, pool, cached } = this.#setup;
    this.#pieces.open(cached);
    for (;;) {
      const seen = Atomics.load(pool.cells, poolCell.wake);
      if (Atomics.load(memory.cells, windowCell.stop) !== 0) return;
      if (!this.#takeOne()) Atomics.wait(pool.cells, poolCell.wake, seen);
    }
  }

  [Symbol.dispose](): void {
    this.#pieces[Symbol.dispose]();
  }

  /** Reads what was asked for next. Returns false if nothing is left. */
  #takeOne(): boolean {
    const { cells, queue } = this.#setup.pool;
    const taken = Atomics.load(cells, poolCell.taken);
    if (taken === Atomics.load(cells, poolCell.asked)) return false;
    const at = queuePlace(queue, taken);
    const [unit, slot] = [queue[at]!, queue[at + 1]!];
    // Another reader may have been faster; the place may be written to again then.
    if (Atomics.compareExchange(cells, poolCell.taken, taken, (taken + 1) | 0) === taken) this.#read(unit, slot);
    return true;
  }

  #read(unit: number, slot: number): void {
    const { map, memory, pool } = this.#setup;
    const block = map.experts + unit;
    let state: number = slotState.ready;
    try {
      for (const piece of this.#pieces.piecesOf(block)) this.#pieces.read(block, piece, this.#room(slot));
    } catch (error) {
      putFailure(pool.failure, error);
      state = slotState.failed;
    }
    Atomics.store(pool.states, slot, state);
    announce(memory, windowCell.news);
  }

  #room(slot: number): NativeBytes {
    let room = this.#rooms.get(slot);
    if (room === undefined) {
      room = new NativeBytes(this.#setup.slots[slot]!, this.#roomBytes);
      this.#rooms.set(slot, room);
    }
    return room;
  }
}
