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
export interface MappedBlock {
  readonly extents: readonly Extent[];
  /** Bytes it takes in memory, whole pages. */
  readonly room: number;
  readonly tensors: readonly StoredTensor[];
  /**
   * The checksum of the tensors' bytes, and the record of it in the first file, to be struck out if the bytes are
   * others. Absent if the files have none.
   */
  readonly recorded?: { readonly checksum: Uint8Array; readonly offset: number; readonly bytes: number };
}

/** Where the blocks of a rank lie on the disk. Plain data: it crosses threads. */
export interface BlockMap {
  readonly files: readonly string[];
  /** In order of computing; one more holds what belongs to no block. */
  readonly blocks: readonly MappedBlock[];
}
