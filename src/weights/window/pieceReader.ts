import { closeSync, openSync, writeSync } from "node:fs";
import { reasonOf, StelliumError } from "../../errors.ts";
import type { NativeBytes } from "../../native/memory.ts";
import { openRecorder, type Recorder, type TraceMemory } from "../../trace/recorder.ts";
import { type SpanKind, spanKind } from "../../trace/spans.ts";
import { BlockChecksum } from "../checksum.ts";
import { pageBytes, roundUp } from "../pages.ts";
import { WeightFile } from "../weightFile.ts";
import type { Extent, ReadMap } from "./blockMap.ts";
import { announce, type WindowMemory, windowCell } from "./windowMemory.ts";

/** Where a reader records what it does, and what it calls the blocks, by their index: see `blockSubject`. */
export interface ReaderTrace {
  readonly memory: TraceMemory;
  readonly subjects: readonly number[];
}

/**
 * Most bytes of one read. A disk behind a network or a hypervisor is at its best with some hundred megabytes in flight, which
 * is one such read of each reader; and a block of a large model is still shared among them.
 */
const mostPieceBytes = 32 * 2 ** 20;
/** A smaller read is mostly waiting for the disk to begin. */
const leastPieceBytes = 2 ** 19;

/** Reads blocks of a map in pieces, into memory that its caller names, and compares the checksum of each once. */
export class PieceReader implements Disposable {
  readonly #map: ReadMap;
  readonly #memory: WindowMemory;
  readonly #recorder: Recorder;
  readonly #subjects: readonly number[] | undefined;
  readonly #pieces: readonly (readonly Extent[])[];
  readonly #files: WeightFile[] = [];

  /**
   * @param trace - nothing is recorded if absent
   * @param leastPieces - see `piecesOf`
   */
  constructor(map: ReadMap, memory: WindowMemory, trace: ReaderTrace | undefined, leastPieces = 1) {
    this.#map = map;
    this.#memory = memory;
    this.#recorder = openRecorder(trace?.memory);
    this.#subjects = trace?.subjects;
    this.#pieces = map.blocks.map(({ extents }) => piecesOf(extents, leastPieces));
  }

  /**
   * Opens the files, once, and announces that. Throws `FILE_UNREADABLE`.
   *
   * @param cached - whether to read through the system's cache and leave there what was read
   */
  open(cached: boolean): void {
    for (const path of this.#map.files) this.#files.push(new WeightFile(path, cached));
    announce(this.#memory, windowCell.opened);
    announce(this.#memory, windowCell.news);
  }

  /** What a block is read in; the pieces of one may be read by several readers, in any order. */
  piecesOf(block: number): readonly Extent[] {
    return this.#pieces[block]!;
  }

  /**
   * Reads a piece of a block that lies from `start` on in `memory`. Who reads the last piece verifies the block, which is
   * ready then. Throws `FILE_UNREADABLE`, `SLICE_INVALID`.
   */
  read(block: number, piece: Extent, memory: NativeBytes, start = 0): void {
    const { done, ready } = this.#memory;
    this.fetch(block, piece, memory, start);
    announce(this.#memory, windowCell.news);
    if (Atomics.add(done, block, 1) + 1 < this.#pieces[block]!.length) return;
    Atomics.store(done, block, 0);
    this.verify(block, memory, start);
    Atomics.add(ready, block, 1);
    announce(this.#memory, windowCell.news);
  }

  /** Reads a piece of a block, and nothing more. Throws `FILE_UNREADABLE`. */
  fetch(block: number, { file, offset, bytes, at }: Extent, memory: NativeBytes, start = 0): void {
    const target = memory.part(start + at, roundUp(bytes, pageBytes));
    const begun = this.now();
    this.#files[file]!.readPages(offset, target, bytes);
    this.record(spanKind.read, begun, block, bytes);
    Atomics.add(this.#memory.bytes, 0, BigInt(bytes));
  }

  /** Compares a block's checksum, the first time that it is read. Throws `SLICE_INVALID`. */
  verify(block: number, memory: NativeBytes, start = 0): void {
    const { tensors, recorded } = this.#map.blocks[block]!;
    if (recorded === undefined || Atomics.load(this.#memory.verified, block) === 1) return;
    const begun = this.now();
    const checksum = new BlockChecksum();
    for (const { offset, bytes } of tensors)
      for (const part of memory.parts(start + offset, bytes)) checksum.update(part);
    this.record(spanKind.verify, begun, block);
    if (!Buffer.from(checksum.digest()).equals(recorded.checksum)) throw this.#damaged(block, recorded);
    Atomics.store(this.#memory.verified, block, 1);
  }

  /** When a span begins that is to be recorded. */
  now(): number {
    return this.#recorder.now();
  }

  /** Records a span that ends now. */
  record(kind: SpanKind, started: number, block: number, bytes = 0): void {
    this.#recorder.end(kind, started, this.#subjects?.[block], bytes);
  }

  [Symbol.dispose](): void {
    for (const file of this.#files) file[Symbol.dispose]();
  }

  /** Strikes out the record of a damaged block, so that it is fetched or cut again at the next start. */
  #damaged(block: number, { offset, bytes }: { offset: number; bytes: number }): StelliumError {
    const path = this.#map.files[0]!;
    try {
      const descriptor = openSync(path, "r+");
      writeSync(descriptor, new Uint8Array(bytes), 0, bytes, offset);
      closeSync(descriptor);
    } catch (error) {
      return invalid(path, `its block ${block} is damaged, and that cannot be noted down: ${reasonOf(error)}`);
    }
    return invalid(path, `its block ${block} is damaged`);
  }
}

/**
 * The pieces that extents are read in, each of about the same size, on pages' borders.
 *
 * @param least - into how many an extent is cut at least, if each has `leastPieceBytes` then
 */
export function piecesOf(extents: readonly Extent[], least = 1): Extent[] {
  return extents.flatMap((extent) => {
    const count = Math.max(
      Math.ceil(extent.bytes / mostPieceBytes),
      Math.min(least, Math.floor(extent.bytes / leastPieceBytes)),
    );
    return cut(extent, roundUp(Math.ceil(extent.bytes / Math.max(1, count)), pageBytes));
  });
}

function cut({ file, offset, bytes, at }: Extent, pieceBytes: number): Extent[] {
  return Array.from({ length: Math.ceil(bytes / pieceBytes) }, (_, i) => {
    const from = i * pieceBytes;
    return { file, offset: offset + from, bytes: Math.min(pieceBytes, bytes - from), at: at + from };
  });
}

function invalid(path: string, reason: string): StelliumError {
  return new StelliumError("SLICE_INVALID", { path, reason });
}
