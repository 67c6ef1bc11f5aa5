import type { Pointer } from "../../native/ggml.ts";
import { NativeBytes } from "../../native/memory.ts";
import { spanKind } from "../../trace/spans.ts";
import type { ReadMap } from "./blockMap.ts";
import { PieceReader, type ReaderTrace } from "./pieceReader.ts";
import { hasFailed, putFailure } from "./readFailure.ts";
import { RingCursor, type Visit } from "./ring.ts";
import { announce, type WindowMemory, windowCell } from "./windowMemory.ts";

/** What a reader is started with. Plain data and shared memory: it crosses threads. */
export interface ReaderSetup {
  readonly map: ReadMap;
  /** Blocks that stay in memory, and where. They are read first. */
  readonly pinned: readonly { readonly block: number; readonly address: Pointer }[];
  /** What the other blocks pass through; undefined if there are none. */
  readonly ring: { readonly address: Pointer; readonly bytes: number; readonly blocks: readonly number[] } | undefined;
  /** Whether to read through the system's cache and leave there what was read. */
  readonly cached: boolean;
  readonly memory: WindowMemory;
  /** Where it records what it does; nothing is recorded if absent. */
  readonly trace?: ReaderTrace | undefined;
}

/** Reads pinned blocks and then, until it is stopped, the others in turns, as far ahead as the ring has room. */
export function runReader(setup: ReaderSetup): void {
  const { memory } = setup;
  using reader = new Reader(setup);
  try {
    reader.open();
    reader.readPinned();
    if (setup.ring !== undefined) reader.readRing(setup.ring);
  } catch (error) {
    reader.fail(error);
  } finally {
    Atomics.sub(memory.cells, windowCell.readers, 1);
    announce(memory, windowCell.news);
  }
}

class Reader implements Disposable {
  readonly #setup: ReaderSetup;
  readonly #memory: WindowMemory;
  readonly #pieces: PieceReader;
  readonly #ring: NativeBytes;

  constructor(setup: ReaderSetup) {
    const { map, ring, memory, trace } = setup;
    this.#setup = setup;
    this.#memory = memory;
    this.#pieces = new PieceReader(map, memory, trace);
    this.#ring = new NativeBytes(ring?.address ?? 0n, ring?.bytes ?? 0);
  }

  open(): void {
    this.#pieces.open(this.#setup.cached);
  }

  readPinned(): void {
    const { cells } = this.#memory;
    const pieces = this.#setup.pinned.flatMap(({ block, address }) =>
      this.#pieces.piecesOf(block).map((piece) => ({ block, address, piece })),
    );
    for (;;) {
      const next = pieces[Atomics.add(cells, windowCell.nextPinned, 1)];
      if (next === undefined || this.#stopped() || this.#failed()) return;
      const { block, piece, address } = next;
      this.#pieces.read(block, piece, new NativeBytes(address, this.#setup.map.blocks[block]!.room));
    }
  }

  readRing(ring: NonNullable<ReaderSetup["ring"]>): void {
    const { cells } = this.#memory;
    for (let epoch = Atomics.load(cells, windowCell.started); ; ) {
      try {
        this.#passEpoch(ring, epoch);
      } catch (error) {
        this.fail(error);
      }
      if (!this.#park(epoch)) return;
      epoch = Atomics.load(cells, windowCell.started);
    }
  }

  fail(error: unknown): void {
    putFailure(this.#memory.failure, error);
    announce(this.#memory, windowCell.wake);
    announce(this.#memory, windowCell.news);
  }

  [Symbol.dispose](): void {
    this.#pieces[Symbol.dispose]();
  }

  /** Takes pieces in turns with the other readers, until the epoch ends. */
  #passEpoch({ bytes, blocks }: NonNullable<ReaderSetup["ring"]>, epoch: number): void {
    const { cells } = this.#memory;
    const rooms = blocks.map((block) => this.#setup.map.blocks[block]!.room);
    const cursor = new RingCursor(rooms, bytes, cells[windowCell.first]);
    const piecesOf = (visit: Visit) => this.#pieces.piecesOf(blocks[visit.block]!);
    let visit = cursor.next();
    let before = 0;
    for (;;) {
      const taken = Atomics.add(cells, windowCell.nextPiece, 1);
      for (let count = piecesOf(visit).length; taken >= before + count; count = piecesOf(visit).length) {
        before += count;
        visit = cursor.next();
      }
      if (!this.#awaitRoom(visit, blocks[visit.block]!, epoch)) return;
      this.#pieces.read(blocks[visit.block]!, piecesOf(visit)[taken - before]!, this.#ring, visit.offset);
    }
  }

  /** Waits until a visit's room is free. Returns false if the epoch has ended. */
  #awaitRoom({ freed }: Visit, block: number, epoch: number): boolean {
    const { cells } = this.#memory;
    const started = this.#pieces.now();
    for (let waited = false; ; waited = true) {
      const seen = Atomics.load(cells, windowCell.wake);
      if (this.#stopped() || this.#failed() || Atomics.load(cells, windowCell.epoch) !== epoch) return false;
      if (Atomics.load(cells, windowCell.released) >= freed) {
        if (waited) this.#pieces.record(spanKind.room, started, block);
        return true;
      }
      Atomics.wait(cells, windowCell.wake, seen);
    }
  }

  /** Waits for another epoch. Returns false if there will be none. */
  #park(epoch: number): boolean {
    const { cells } = this.#memory;
    Atomics.add(cells, windowCell.parked, 1);
    announce(this.#memory, windowCell.news);
    for (;;) {
      const seen = Atomics.load(cells, windowCell.wake);
      if (this.#stopped()) return false;
      if (Atomics.load(cells, windowCell.started) !== epoch) return true;
      Atomics.wait(cells, windowCell.wake, seen);
    }
  }

  #stopped(): boolean {
    return Atomics.load(this.#memory.cells, windowCell.stop) !== 0;
  }

  #failed(): boolean {
    return hasFailed(this.#memory.failure);
  }
}
