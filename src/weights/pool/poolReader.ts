import type { Pointer } from "../../native/ggml.ts";
import { NativeBytes } from "../../native/memory.ts";
import { readerThreads } from "../../trace/spans.ts";
import type { ReadMap } from "../window/blockMap.ts";
import { PieceReader } from "../window/pieceReader.ts";
import { putFailure } from "../window/readFailure.ts";
import { announce, type WindowMemory, windowCell } from "../window/windowMemory.ts";
import { type PoolMemory, poolCell, queueField, queuePlace, slotPhase, slotState } from "./poolMemory.ts";

/** Pieces that an expert is cut into if it is large enough: one for each reader. See `piecesOf`. */
export const leastPieces = readerThreads.length;

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
    this.#pieces = new PieceReader(map, { ...memory, bytes: new BigInt64Array(1) }, undefined, leastPieces);
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

  /** Reads the piece that was asked for next. Returns false if nothing is left. */
  #takeOne(): boolean {
    const { cells, queue } = this.#setup.pool;
    const taken = Atomics.load(cells, poolCell.taken);
    if (taken === Atomics.load(cells, poolCell.asked)) return false;
    const at = queuePlace(queue, taken);
    const [unit, slot] = [queue[at + queueField.unit]!, queue[at + queueField.slot]!];
    const [piece, ticket] = [queue[at + queueField.piece]!, queue[at + queueField.ticket]!];
    // Another reader may have been faster; the place may be written to again then.
    if (Atomics.compareExchange(cells, poolCell.taken, taken, (taken + 1) | 0) === taken) {
      if (this.#begins(slot, ticket)) this.#read(unit, slot, piece, ticket);
    }
    return true;
  }

  /** Begins the read with this number, or finds that another reader has. Returns false if it was taken back. */
  #begins(slot: number, ticket: number): boolean {
    const [waiting, reading] = [slotState(ticket, slotPhase.waiting), slotState(ticket, slotPhase.reading)];
    const before = Atomics.compareExchange(this.#setup.pool.states, slot, waiting, reading);
    return before === waiting || before === reading;
  }

  /** Reads a piece. Who reads the last one verifies the unit. */
  #read(unit: number, slot: number, piece: number, ticket: number): void {
    const { map, memory, pool } = this.#setup;
    const block = map.experts + unit;
    this.#attempt(slot, () => this.#pieces.fetch(block, this.#pieces.piecesOf(block)[piece]!, this.#room(slot)));
    if (Atomics.sub(pool.left, slot, 1) > 1) return;
    if (Atomics.load(pool.faults, slot) === 0) this.#attempt(slot, () => this.#pieces.verify(block, this.#room(slot)));
    const phase = Atomics.load(pool.faults, slot) === 0 ? slotPhase.ready : slotPhase.failed;
    Atomics.store(pool.states, slot, slotState(ticket, phase));
    announce(memory, windowCell.news);
  }

  #attempt(slot: number, action: () => void): void {
    try {
      action();
    } catch (error) {
      putFailure(this.#setup.pool.failure, error);
      Atomics.store(this.#setup.pool.faults, slot, 1);
    }
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
