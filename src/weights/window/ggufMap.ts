import { StelliumError } from "../../errors.ts";
import { rowBytes } from "../../native/tensorTypes.ts";
import { pageBytes, roundUp } from "../pages.ts";
import { sliceBytes, sliceShape, type TensorSlice } from "../slice.ts";
import type { BlockMap, Extent, MappedBlock, MappedTensor } from "./blockMap.ts";

/**
 * Where the blocks of a model lie in its own files, in the plain layout. Whole pages around each tensor are read, which
 * is hardly more. Throws `MODEL_UNSUPPORTED` where a block needs some columns of a tensor only: those do not follow on
 * each other in the file.
 *
 * @param plain - name of the plain layout
 */
export function ggufMap(
  files: readonly string[],
  blocks: readonly (readonly TensorSlice[])[],
  plain: string,
): BlockMap {
  return { files, blocks: blocks.map((slices) => mappedBlock(slices, plain)) };
}

/** Room that each block takes so. */
export function plainRooms(blocks: readonly (readonly TensorSlice[])[]): number[] {
  return ggufMap([], blocks, "").blocks.map(({ room }) => room);
}

function mappedBlock(slices: readonly TensorSlice[], layout: string): MappedBlock {
  const placed = slices.map((slice) => ({ slice, ...fileRange(slice) }));
  placed.sort((a, b) => a.file - b.file || a.start - b.start);
  const extents: Extent[] = [];
  const tensors: MappedTensor[] = [];
  for (const { slice, file, start, end } of placed) {
    const extent = extended(extents, file, start, end);
    const at = extent.at + start - extent.offset;
    const { name, tensor } = slice;
    tensors.push({ name, type: tensor.type, shape: sliceShape(slice), layout, at, bytes: end - start });
  }
  return {
    extents,
    room: extents.reduce((most, { at, bytes }) => Math.max(most, roundUp(at + bytes, pageBytes)), 0),
    tensors,
  };
}

/** The last extent, made longer where a tensor starts on its last page or the next; otherwise a new one. */
function extended(extents: Extent[], file: number, start: number, end: number): Extent {
  const page = start - (start % pageBytes);
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

function fileRange({ name, tensor, rows, columns }: TensorSlice): { file: number; start: number; end: number } {
  const start = tensor.offset + rows.start * rowBytes(tensor.type, tensor.shape[0]!);
  if (columns.count === tensor.shape[0]) {
    return { file: tensor.file, start, end: start + sliceBytes({ tensor, rows, columns }) };
  }
  if (tensor.shape.length === 1) {
    const first = tensor.offset + rowBytes(tensor.type, columns.start);
    return { file: tensor.file, start: first, end: first + rowBytes(tensor.type, columns.count) };
  }
  const reason = `some columns of ${name} cannot be streamed from the file, which has no room beside it for a slice`;
  throw new StelliumError("MODEL_UNSUPPORTED", { model: "the model", reason });
}
