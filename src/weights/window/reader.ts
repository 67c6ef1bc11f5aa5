import { closeSync, openSync, writeSync } from "node:fs";
import { reasonOf, StelliumError } from "../../errors.ts";
import type { Pointer } from "../../native/ggml.ts";
import { viewNative } from "../../native/memory.ts";
import { openRecorder, type Recorder, type TraceMemory } from "../../trace/recorder.ts";
import { type SpanKind, spanKind } from "../../trace/spans.ts";
import { BlockChecksum } from "../checksum.ts";
import { pageBytes, roundUp } from "../pages.ts";
import { BlockFile } from "./blockFile.ts";
import type { BlockMap, Extent } from "./blockMap.ts";
import { RingCursor, type Visit } from "./ring.ts";
import { announce, putFailure, type WindowMemory, windowCell } from "./windowMemory.ts";

/** What a reader is started with. Plain data and shared memory: it crosses threads. */
export interface ReaderSetup {
  readonly map: BlockMap;
  /** Blocks that stay in memory, and where. They are read first. */
  readonly pinned: readonly { readonly block: number; readonly address: Pointer }[];
  /** What the other blocks pass through; undefined where there are none. */
  readonly ring: { readonly address: Pointer; readonly bytes: number; readonly blocks: readonly number[] } | undefined;
  /** Whether to read through the system's cache and leave there what was read. */
  readonly cached: boolean;
  readonly memory: WindowMemory;
  /** What a trace is to say of it; nothing is recorded if absent. */
  readonly trace?: ReaderTrace | undefined;
}

/** Where a reader records what it does, and what it calls the blocks, by their index: see `blockSubject`. */
export interface ReaderTrace {
  readonly memory: TraceMemory;
  readonly subjects: readonly number[];
}

/**
 * Most bytes of one read. A disk behind a network or a hypervisor is at its best with some hundred megabytes under way, which
 * is one such read of each reader; and a block of a large model is still shared among them.
 */
const mostPieceBytes = 32 * 2 ** 20;

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
  readonly #files: readonly BlockFile[];
  readonly #pieces: readonly (readonly Extent[])[];
  readonly #recorder: Recorder;
  /** Bytes of the ring. One view for good: each new one counts as new memory, and the garbage collector comes to look. */
  readonly #ring: Uint8Array;

  constructor(setup: ReaderSetup) {
    const { map, ring, cached, memory } = setup;
    this.#setup = setup;
    this.#memory = memory;
    this.#recorder = openRecorder(setup.trace?.memory);
    this.#files = map.files.map((path) => new BlockFile(path, cached));
    this.#pieces = map.blocks.map(({ extents }) => extents.flatMap(cut));
    this.#ring = ring === undefined ? new Uint8Array(0) : viewNative(ring.address, ring.bytes);
  }

  open(): void {
    for (const file of this.#files) file.open();
    announce(this.#memory, windowCell.opened);
    announce(this.#memory, windowCell.news);
  }

  readPinned(): void {
    const { cells } = this.#memory;
    const pieces = this.#setup.pinned.flatMap(({ block, address }) =>
      this.#pieces[block]!.map((piece) => ({ block, address, piece })),
    );
    for (;;) {
      const next = pieces[Atomics.add(cells, windowCell.nextPinned, 1)];
      if (next === undefined || this.#stopped() || this.#failed()) return;
      this.#read(next.block, next.piece, viewNative(next.address, this.#setup.map.blocks[next.block]!.room));
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
    const known = error instanceof StelliumError;
    putFailure(this.#memory, known ? error : new StelliumError("ENGINE_FAILED", { reason: reasonOf(error) }));
    announce(this.#memory, windowCell.wake);
    announce(this.#memory, windowCell.news);
  }

  [Symbol.dispose](): void {
    for (const file of this.#files) file[Symbol.dispose]();
  }

  /** Takes pieces in turns with the other readers, until the epoch ends. */
  #passEpoch({ bytes, blocks }: NonNullable<ReaderSetup["ring"]>, epoch: number): void {
    const { cells } = this.#memory;
    const rooms = blocks.map((block) => this.#setup.map.blocks[block]!.room);
    const cursor = new RingCursor(rooms, bytes, cells[windowCell.first]);
    const piecesOf = (visit: Visit) => this.#pieces[blocks[visit.block]!]!;
    let visit = cursor.next();
    let before = 0;
    for (;;) {
      const taken = Atomics.add(cells, windowCell.nextPiece, 1);
      for (let count = piecesOf(visit).length; taken >= before + count; count = piecesOf(visit).length) {
        before += count;
        visit = cursor.next();
      }
      if (!this.#awaitRoom(visit, blocks[visit.block]!, epoch)) return;
      this.#read(blocks[visit.block]!, piecesOf(visit)[taken - before]!, this.#ring.subarray(visit.offset));
    }
  }

  /** Waits until a visit's room is free. Returns false where the epoch has ended. */
  #awaitRoom({ freed }: Visit, block: number, epoch: number): boolean {
    const { cells } = this.#memory;
    const started = this.#recorder.now();
    for (let waited = false; ; waited = true) {
      const seen = Atomics.load(cells, windowCell.wake);
      if (this.#stopped() || this.#failed() || Atomics.load(cells, windowCell.epoch) !== epoch) return false;
      if (Atomics.load(cells, windowCell.released) >= freed) {
        if (waited) this.#record(spanKind.room, started, block);
        return true;
      }
      Atomics.wait(cells, windowCell.wake, seen);
    }
  }

  /** Waits for another epoch. Returns false where there will be none. */
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

  /** Reads a piece of a block that starts where `memory` does. Who reads the last piece verifies the block. */
  #read(block: number, { file, offset, bytes, at }: Extent, memory: Uint8Array): void {
    const { done, ready, bytes: counted } = this.#memory;
    const target = memory.subarray(at, at + roundUp(bytes, pageBytes));
    const started = this.#recorder.now();
    this.#files[file]!.read(offset, target, bytes);
    this.#record(spanKind.read, started, block, bytes);
    Atomics.add(counted, 0, BigInt(bytes));
    announce(this.#memory, windowCell.news);
    if (Atomics.add(done, block, 1) + 1 < this.#pieces[block]!.length) return;
    this.#verify(block, memory);
    Atomics.store(done, block, 0);
    Atomics.add(ready, block, 1);
    announce(this.#memory, windowCell.news);
  }

  /** Compares a block's checksum, the first time that it is read. */
  #verify(block: number, memory: Uint8Array): void {
    const { tensors, recorded } = this.#setup.map.blocks[block]!;
    if (recorded === undefined || Atomics.load(this.#memory.verified, block) === 1) return;
    const started = this.#recorder.now();
    const checksum = new BlockChecksum();
    for (const { at, bytes } of tensors) checksum.update(memory.subarray(at, at + bytes));
    this.#record(spanKind.verify, started, block);
    if (!Buffer.from(checksum.digest()).equals(recorded.checksum)) throw this.#damaged(block, recorded);
    Atomics.store(this.#memory.verified, block, 1);
  }

  /** Strikes out the record of a damaged block, so that it is fetched or cut again at the next start. */
  #damaged(block: number, { offset, bytes }: { offset: number; bytes: number }): StelliumError {
    const { path } = this.#files[0]!;
    try {
      const descriptor = openSync(path, "r+");
      writeSync(descriptor, new Uint8Array(bytes), 0, bytes, offset);
      closeSync(descriptor);
    } catch (error) {
      return invalid(path, `its block ${block} is damaged, and that cannot be noted down: ${reasonOf(error)}`);
    }
    return invalid(path, `its block ${block} is damaged`);
  }

  #record(kind: SpanKind, started: number, block: number, bytes = 0): void {
    this.#recorder.end(kind, started, this.#setup.trace?.subjects[block], bytes);
  }

  #stopped(): boolean {
    return Atomics.load(this.#memory.cells, windowCell.stop) !== 0;
  }

  #failed(): boolean {
    return Atomics.load(this.#memory.cells, windowCell.failed) !== 0;
  }
}

/** Cuts an extent in pieces of about the same size, on pages' borders. */
function cut({ file, offset, bytes, at }: Extent): Extent[] {
  const count = Math.ceil(bytes / mostPieceBytes);
  const pieceBytes = roundUp(Math.ceil(bytes / count), pageBytes);
  return Array.from({ length: Math.ceil(bytes / pieceBytes) }, (_, i) => {
    const from = i * pieceBytes;
    return { file, offset: offset + from, bytes: Math.min(pieceBytes, bytes - from), at: at + from };
  });
}

function invalid(path: string, reason: string): StelliumError {
  return new StelliumError("SLICE_INVALID", { path, reason });
}
