import type { TensorTypeName } from "../../native/tensorTypes.ts";

/** A piece of a file, and where it comes to lie. */
export interface Extent {
  /** Index into the map's files. */
  readonly file: number;
  /** A multiple of a page. */
  readonly offset: number;
  readonly bytes: number;
  /** Offset from the block's start in memory, a multiple of a page. */
  readonly at: number;
}

/** A tensor within a block in memory. */
export interface MappedTensor {
  readonly name: string;
  readonly type: TensorTypeName;
  readonly shape: readonly number[];
  /** ggml's name of the buffer type whose layout the bytes have. */
  readonly layout: string;
  readonly at: number;
  readonly bytes: number;
}

/** How one block gets from the disk into memory, by reading alone. */
export interface MappedBlock {
  readonly extents: readonly Extent[];
  /** Bytes it takes in memory, whole pages. */
  readonly room: number;
  readonly tensors: readonly MappedTensor[];
  /** What the tensors' bytes sum up to, and where in the first file that is recorded; absent where nobody knows. */
  readonly recorded?: { readonly checksum: Uint8Array; readonly offset: number; readonly bytes: number };
}

/** Where the blocks of a rank lie on the disk. Plain data: it crosses threads. */
export interface BlockMap {
  readonly files: readonly string[];
  /** In order of computing; one more holds what belongs to no block. */
  readonly blocks: readonly MappedBlock[];
}
