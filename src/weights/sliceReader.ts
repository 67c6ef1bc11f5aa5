import { rowBytes } from "../native/tensorTypes.ts";
import type { ByteSource } from "./byteSource.ts";
import { rowGroup } from "./layout.ts";
import type { TensorSlice } from "./slice.ts";

/** Rows of a slice in the plain layout, one behind the other. */
export interface SliceChunk {
  /** Index of the first row, within the slice. */
  readonly first: number;
  readonly rows: number;
  readonly bytes: Uint8Array;
}

/** What reading a slice holds in memory at most, unless a single row is longer: enough for a disk to be at its best. */
export const sliceBufferBytes = 8 * 2 ** 20;

/** How many rows of `bytes` bytes fit `limit`: whole row groups where one fits, and one row at least. */
export function rowsWithin(limit: number, bytes: number): number {
  const fitting = Math.max(1, Math.floor(limit / bytes));
  return fitting < rowGroup ? fitting : fitting - (fitting % rowGroup);
}

/**
 * Reads the plain bytes of a slice, from its first row to its last. Where it has only some columns, whole rows are read
 * and cut: a read for every row would take longer than the bytes between. The reads of all slices of a tensor that
 * have the same rows are the same reads. Takes twice `bufferBytes` at most; rejects where the source does.
 */
export async function* readSlice(
  source: ByteSource,
  slice: TensorSlice,
  bufferBytes = sliceBufferBytes,
): AsyncGenerator<SliceChunk> {
  const { tensor, rows } = slice;
  const wholeRow = rowBytes(tensor.type, tensor.shape[0]!);
  const step = rowsWithin(bufferBytes, wholeRow);
  for (let first = 0; first < rows.count; first += step) {
    const count = Math.min(step, rows.count - first);
    const band = await source.read(tensor.offset + (rows.start + first) * wholeRow, count * wholeRow);
    yield { first, rows: count, bytes: columnsOf(band, slice, wholeRow) };
  }
}

/** Reads the plain bytes of slices one behind the other: what a slice store takes for a block. */
export async function* readSlices(
  sources: readonly ByteSource[],
  slices: readonly TensorSlice[],
  bufferBytes = sliceBufferBytes,
): AsyncGenerator<Uint8Array> {
  for (const slice of slices) {
    for await (const { bytes } of readSlice(sources[slice.tensor.file]!, slice, bufferBytes)) yield bytes;
  }
}

/** Some columns of all the whole rows in `band`, one row behind the other. */
function columnsOf(band: Uint8Array, { tensor, columns }: TensorSlice, wholeRow: number): Uint8Array {
  const start = rowBytes(tensor.type, columns.start);
  const width = rowBytes(tensor.type, columns.count);
  if (width === wholeRow) return band;
  const gathered = new Uint8Array((band.length / wholeRow) * width);
  for (let from = start, to = 0; to < gathered.length; from += wholeRow, to += width) {
    gathered.set(band.subarray(from, from + width), to);
  }
  return gathered;
}
