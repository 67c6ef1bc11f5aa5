import { StelliumError } from "../../errors.ts";
import { pageBytes, roundUp } from "../pages.ts";
import { rowColumns, type StoredTensor, sliceBytes, type TensorSlice, tensorPart } from "../slice.ts";
import type { FileRange } from "../weightFile.ts";
import type { BlockMap, Extent, MappedBlock } from "./blockMap.ts";

/**
 * Where the blocks of a model lie in its own files, in the plain layout. Whole pages around each tensor are read, which
 * is hardly more. Throws `MODEL_UNSUPPORTED` if a block needs only some columns of a tensor: those are scattered over the
 * file.
 *
 * @param blocks - the last one holds what belongs to no block
 * @param plain - name of the plain layout
 */
export function ggufMap(
  files: readonly string[],
  blocks: readonly (readonly TensorSlice[])[],
  experts: readonly (readonly TensorSlice[])[],
  plain: string,
): BlockMap {
  const mapped = [...blocks, ...experts].map((slices) => mappedBlock(slices, plain));
  return { files, blocks: mapped, experts: blocks.length };
}

function mappedBlock(slices: readonly TensorSlice[], layout: string): MappedBlock {
  const ranges = slices.map((slice) => ({ part: tensorPart(slice), range: fileRange(slice) }));
  ranges.sort((a, b) => a.range.file - b.range.file || a.range.offset - b.range.offset);
  const extents: Extent[] = [];
  const tensors: StoredTensor[] = [];
  for (const { part, range } of ranges) {
    const extent = extended(extents, range);
    const offset = extent.at + range.offset - extent.offset;
    tensors.push({ ...part, layout, offset, bytes: range.bytes });
  }
  return {
    extents,
    room: extents.reduce((most, { at, bytes }) => Math.max(most, roundUp(at + bytes, pageBytes)), 0),
    tensors,
  };
}

/** The last extent, made longer if a tensor starts on its last page or the next; otherwise a new one. */
function extended(extents: Extent[], { file, offset: start, bytes }: FileRange): Extent {
  const page = start - (start % pageBytes);
  const end = start + bytes;
  const last = extents.at(-1);
  const lastEnd = last === undefined ? 0 : roundUp(last.bytes, pageBytes);
  if (last !== undefined && last.file === file && page <= last.offset + lastEnd) {
    const longer = { ...last, bytes: Math.max(last.bytes, end - last.offset) };
    extents[extents.length - 1] = longer;
    return longer;
  }
  const extent = { file, offset: page, bytes: end - page, at: last === undefined ? 0 : last.at + lastEnd };
  extents.push(extent);
  return extent;
}

/** The bytes of a slice, which have to be in one piece. */
function fileRange(slice: TensorSlice): FileRange {
  const { name, tensor, rows } = slice;
  const columns = rowColumns(slice);
  if (rows.count > 1 && columns.bytes < columns.rowBytes) {
    const reason = `some columns of ${name} cannot be streamed from the file, which has no room beside it for a slice`;
    throw new StelliumError("MODEL_UNSUPPORTED", { model: "the model", reason });
  }
  const offset = tensor.offset + rows.start * columns.rowBytes + columns.offset;
  return { file: tensor.file, offset, bytes: sliceBytes(slice) };
}
