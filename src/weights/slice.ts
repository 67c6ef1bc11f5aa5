import { rowBytes } from "../native/tensorTypes.ts";
import type { GgufTensor } from "./gguf/model.ts";

/** Neighbouring rows, columns, heads: `count` of them from `start` on. */
export interface Range {
  readonly start: number;
  readonly count: number;
}

/**
 * A part of a tensor. Columns run along the contiguous dimension and lie on quantization-block borders; a tensor of one
 * dimension is one row. Plain data: it crosses threads and the network.
 */
export interface TensorSlice {
  /** Unique among a model's weights: the tensor's name, or for a part of a fused tensor the name it would have alone. */
  readonly name: string;
  readonly tensor: GgufTensor;
  readonly rows: Range;
  readonly columns: Range;
}

/** All of a tensor of one or two dimensions. */
export function wholeTensor(tensor: GgufTensor): TensorSlice {
  const [columns = 1, rows = 1] = tensor.shape;
  return { name: tensor.name, tensor, rows: { start: 0, count: rows }, columns: { start: 0, count: columns } };
}

/** Elements per dimension of a slice, as many dimensions as its tensor has, the contiguous one first. */
export function sliceShape({ tensor, rows, columns }: Omit<TensorSlice, "name">): number[] {
  return tensor.shape.length === 1 ? [columns.count] : [columns.count, rows.count];
}

/** Bytes of a slice in the plain layout. */
export function sliceBytes({ tensor, rows, columns }: Omit<TensorSlice, "name">): number {
  return rows.count * rowBytes(tensor.type, columns.count);
}
