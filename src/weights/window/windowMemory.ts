import { type ReadFailure, readFailure } from "./readFailure.ts";

/** Memory that the engine thread and the readers share: on the way of a block no messages pass between them. */
export interface WindowMemory {
  /** See `cell`. */
  readonly cells: Int32Array;
  /** By block: pieces that have been read in its present lap. */
  readonly done: Int32Array;
  /** By block: how many laps it has been ready in. */
  readonly ready: Int32Array;
  /** By block: 1 once its checksum has been compared. */
  readonly verified: Int32Array;
  /** How many bytes were read from disk. */
  readonly bytes: BigInt64Array;
  /** Why reading failed. */
  readonly failure: ReadFailure;
}

/** Indices into `cells`. An epoch is a time in which blocks pass through the ring without a break. */
export const windowCell = {
  /** Set for good when all is to end. */
  stop: 0,
  /** The epoch that the engine wants. */
  epoch: 1,
  /** The epoch that readers may work in. */
  started: 2,
  /** Readers that wait for another epoch to start. */
  parked: 3,
  /** Readers of blocks that have not ended. */
  readers: 4,
  /** The ring's piece that the next free reader takes, counted from the epoch's start. */
  nextPiece: 5,
  /** Visits that have ended in this epoch. */
  released: 6,
  /** The block that this epoch started with. */
  first: 7,
  /** The pinned blocks' piece that the next free reader takes. */
  nextPinned: 8,
  /** Changes whenever readers have reason to look up. */
  wake: 9,
  /** Changes whenever the engine has reason to look up. */
  news: 10,
  /** Readers that have opened the files. */
  opened: 11,
  /** Readers of experts that have not ended. */
  expertReaders: 12,
  length: 13,
} as const;

/** Allocates the memory for so many blocks. */
export function windowMemory(blocks: number): WindowMemory {
  const shared = (bytes: number) => new SharedArrayBuffer(bytes);
  return {
    cells: new Int32Array(shared(4 * windowCell.length)),
    done: new Int32Array(shared(4 * blocks)),
    ready: new Int32Array(shared(4 * blocks)),
    verified: new Int32Array(shared(4 * blocks)),
    bytes: new BigInt64Array(shared(8)),
    failure: readFailure(),
  };
}

/** Changes a cell that others wait for, and wakes them. */
export function announce({ cells }: WindowMemory, index: number): void {
  Atomics.add(cells, index, 1);
  Atomics.notify(cells, index);
}
