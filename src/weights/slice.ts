import { rowBytes, type TensorTypeName } from "../native/tensorTypes.ts";
import type { GgufTensor } from "./gguf/model.ts";

/** Neighbouring rows, columns, heads: `count` of them from `start` on. */
export interface Range {
  readonly start: number;
  readonly count: number;
}

/**
 * What a rank has of a tensor. Columns run along the contiguous dimension and lie on quantization-block borders; a
 * vector is one row. Plain data: it crosses threads and the network, and is written into slices.
 */
export interface TensorPart {
  /** Unique among a model's weights: the tensor's name, or for a part of a fused tensor the name it would have alone. */
  readonly name: string;
  /**
   * A matrix is multiplied, in any type and layout; so is one of an `expert`, among others that a token chooses from. A
   * vector is added or scaled by, in F32 and the plain layout.
   */
  readonly kind: "matrix" | "expert" | "vector";
  readonly type: TensorTypeName;
  readonly rows: Range;
  readonly columns: Range;
  /**
   * Rows of each matrix if these are several, one after the other, that are multiplied side by side: ggml's third
   * dimension. They stay in the plain layout.
   */
  readonly matrixRows?: number | undefined;
}

/** A part of a tensor in a model's files. */
export interface TensorSlice extends TensorPart {
  readonly tensor: GgufTensor;
}

/** A part of a tensor in a device's layout, and where it lies in its block, on disk and in memory. */
export interface StoredTensor extends TensorPart {
  /** ggml's name of the buffer type whose layout the bytes have. */
  readonly layout: string;
  /** From the block's start, in bytes. */
  readonly offset: number;
  /** In its layout, padding included. */
  readonly bytes: number;
}

/** All of a tensor of one or two dimensions. */
export function wholeTensor(tensor: GgufTensor): TensorSlice {
  const { name, type, shape } = tensor;
  const [columns = 1, rows = 1] = shape;
  const kind = shape.length === 1 ? "vector" : "matrix";
  return { name, kind, type, tensor, rows: { start: 0, count: rows }, columns: { start: 0, count: columns } };
}

/** Parts of tensors of one shape and type, one of each expert, that are multiplied with as one tensor of that name. */
export interface TensorStack {
  readonly name: string;
  readonly experts: readonly TensorSlice[];
}

/** The part alone, without what an extension of it says. */
export function tensorPart({ name, kind, type, rows, columns, matrixRows }: TensorPart): TensorPart {
  return { name, kind, type, rows, columns, ...(matrixRows !== undefined && { matrixRows }) };
}

/** Elements per dimension, the contiguous one first. */
export function sliceShape({ kind, rows, columns, matrixRows }: Omit<TensorPart, "name" | "type">): number[] {
  if (kind === "vector") return [columns.count];
  return [columns.count, ...(matrixRows === undefined ? [rows.count] : [matrixRows, rows.count / matrixRows])];
}

/** Bytes in the plain layout. */
export function sliceBytes({ type, rows, columns }: Pick<TensorPart, "type" | "rows" | "columns">): number {
  return rows.count * rowBytes(type, columns.count);
}

/** Where the columns of a slice lie in each row of its tensor. All in bytes. */
export interface RowColumns {
  readonly rowBytes: number;
  readonly offset: number;
  readonly bytes: number;
}

/** See `RowColumns`. */
export function rowColumns({ tensor, type, columns }: Pick<TensorSlice, "tensor" | "type" | "columns">): RowColumns {
  return {
    rowBytes: rowBytes(type, tensor.shape[0]!),
    offset: rowBytes(type, columns.start),
    bytes: rowBytes(type, columns.count),
  };
}

/**
 * Moves the columns of whole rows together, one row after the other, to the front of `target`, which may be `rows` itself.
 * Returns that part of it.
 */
export function gatherColumns(rows: Uint8Array, columns: RowColumns, target = rows): Uint8Array {
  const { rowBytes, offset, bytes } = columns;
  const end = (rows.length / rowBytes) * bytes;
  for (let from = offset, to = 0; to < end; from += rowBytes, to += bytes) {
    target.set(rows.subarray(from, from + bytes), to);
  }
  return target.subarray(0, end);
}
