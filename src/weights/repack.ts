import type { Buffer, Ggml, Pointer } from "../native/ggml.ts";
import { rowBytes } from "../native/tensorTypes.ts";
import { convertsInParts, describingContext, type Layout, newTensor, rowGroup } from "./layout.ts";
import type { StoredTensor, TensorPart } from "./slice.ts";

/** Rows of a tensor that are brought into its layout together. */
export interface Band {
  /** Index of the first one, within the part. */
  readonly first: number;
  readonly rows: number;
  /** Where they lie in their layout, from the tensor's start. */
  readonly offset: number;
  /** What they take there. */
  readonly bytes: number;
}

/** How many rows of `bytes` bytes fit `limit`: whole row groups where one fits, and one row at least. */
export function rowsWithin(limit: number, bytes: number): number {
  const fitting = Math.max(1, Math.floor(limit / bytes));
  return fitting < rowGroup ? fitting : fitting - (fitting % rowGroup);
}

/**
 * Cuts a tensor into bands that can be brought into its layout one by one, of rows of `readBytes` bytes that take no more
 * than `limit`, unless a row group does, or the layout cannot be made in parts.
 */
export function bandsOf(tensor: StoredTensor, layout: Layout, readBytes: number, limit: number): Band[] {
  const { rows, bytes } = tensor;
  const step = rowsAtOnce(tensor, layout, rowsWithin(limit, readBytes));
  // In a converted layout a row may take more room than in the file.
  const room = layout.plain ? rowBytes(tensor.type, tensor.columns.count) : Math.floor(bytes / rows.count);
  return Array.from({ length: Math.ceil(rows.count / step) }, (_, i) => {
    const first = i * step;
    const count = Math.min(step, rows.count - first);
    return { first, rows: count, offset: first * room, bytes: count === rows.count ? bytes : count * room };
  });
}

function rowsAtOnce({ rows }: TensorPart, layout: Layout, fitting: number): number {
  if (!convertsInParts(layout, rows.count)) return rows.count;
  return layout.plain ? fitting : Math.max(rowGroup, fitting);
}

/** Where rows are repacked to: memory of a buffer whose type has the layout. */
export interface RepackPlace {
  readonly buffer: Buffer;
  readonly address: Pointer;
}

/** Brings plain rows of a part into a layout. ggml converts whole tensors only, so they are a tensor of their own. */
export function repackRows(
  ggml: Ggml,
  part: TensorPart,
  rows: number,
  plain: Uint8Array,
  { buffer, address }: RepackPlace,
): void {
  const context = describingContext(ggml, 1);
  try {
    const band = newTensor(ggml, context, part, rows);
    ggml.placeTensor(buffer, band, address);
    ggml.setTensor(band, plain, 0, plain.length);
  } finally {
    ggml.free(context);
  }
}
