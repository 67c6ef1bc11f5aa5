import type { ByteSource } from "./byteSource.ts";
import { rowsWithin } from "./repack.ts";
import { gatherColumns, rowColumns, type TensorSlice } from "./slice.ts";

/** What reading a slice holds in memory at most, unless a single row is longer: enough for a disk to be at its best. */
export const sliceBufferBytes = 8 * 2 ** 20;

/**
 * Reads the plain bytes of a slice, from its first row to its last, some rows at a time. If it has only some columns,
 * whole rows are read and cut: a read for every row would take longer than the bytes between. The reads of all slices
 * of a tensor that have the same rows are the same reads. Takes twice `bufferBytes` at most; rejects when the source does.
 */
export async function* readSlice(
  source: ByteSource,
  slice: TensorSlice,
  bufferBytes = sliceBufferBytes,
): AsyncGenerator<Uint8Array> {
  const { tensor, rows } = slice;
  const columns = rowColumns(slice);
  const { rowBytes } = columns;
  const step = rowsWithin(bufferBytes, rowBytes);
  for (let first = 0; first < rows.count; first += step) {
    const count = Math.min(step, rows.count - first);
    const read = await source.read(tensor.offset + (rows.start + first) * rowBytes, count * rowBytes);
    if (columns.bytes === rowBytes) yield read;
    // What was read stays as it is: other ranks may be given the same memory.
    else yield gatherColumns(read, columns, new Uint8Array(count * columns.bytes));
  }
}

/** Reads the plain bytes of slices one after the other: what a `SliceWriter` takes for a block. */
export async function* readSlices(
  sources: readonly ByteSource[],
  slices: readonly TensorSlice[],
  bufferBytes = sliceBufferBytes,
): AsyncGenerator<Uint8Array> {
  for (const slice of slices) yield* readSlice(sources[slice.tensor.file]!, slice, bufferBytes);
}
