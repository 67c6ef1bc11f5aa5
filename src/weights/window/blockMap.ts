import type { StoredTensor } from "../slice.ts";
import type { FileRange } from "../weightFile.ts";

/** Bytes of a file, from a page border on, and where they go. */
export interface Extent extends FileRange {
  /** Offset from the block's start in memory, a multiple of a page. */
  readonly at: number;
}

/**
 * How one block gets from the disk into memory, by reading alone. It is the unit that is read, checked and placed: its
 * address in the file, its length and its checksum are its own, and it can go anywhere in memory.
 */
export interface MappedBlock extends ReadBlock {
  readonly tensors: readonly StoredTensor[];
}

/** What of a block they need to know who read it. */
export interface ReadBlock {
  readonly extents: readonly Extent[];
  /** Bytes it takes in memory, whole pages. */
  readonly room: number;
  /** Where its tensors lie in it, in the order of their checksum. */
  readonly tensors: readonly Pick<StoredTensor, "offset" | "bytes">[];
  /**
   * The checksum of the tensors' bytes, and the record of it in the first file, to be struck out if the bytes are
   * others. Absent if the files have none.
   */
  readonly recorded?: { readonly checksum: Uint8Array; readonly offset: number; readonly bytes: number };
}

/** A map as readers need it: a model of experts has many blocks, and each reader a copy of its map. */
export interface ReadMap {
  readonly files: readonly string[];
  readonly blocks: readonly ReadBlock[];
  readonly experts: number;
}

/** See `ReadMap`. */
export function readMap({ files, blocks, experts }: BlockMap): ReadMap {
  const read = blocks.map(({ extents, room, tensors, recorded }): ReadBlock => {
    const places = tensors.map(({ offset, bytes }) => ({ offset, bytes }));
    return { extents, room, tensors: places, ...(recorded && { recorded }) };
  });
  return { files, blocks: read, experts };
}

/** Where the blocks of a rank lie on the disk. Plain data: it crosses threads. */
export interface BlockMap {
  readonly files: readonly string[];
  /** In order of computing; one more holds what belongs to no block; then the experts of all blocks, in order. */
  readonly blocks: readonly MappedBlock[];
  /** Index of the first expert. */
  readonly experts: number;
}
