import type { TensorTypeName } from "../../native/tensorTypes.ts";

/** A metadata value. 64-bit integers beyond 2^53 stay `bigint`. */
export type GgufValue = string | number | bigint | boolean | GgufArray;

/** A metadata array; numbers and booleans come as typed arrays where the type has one. */
export type GgufArray =
  | string[]
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array
  | BigUint64Array
  | BigInt64Array
  | boolean[]
  | GgufArray[];

/** Where a tensor lies and what it holds. */
export interface GgufTensor {
  readonly name: string;
  readonly type: TensorTypeName;
  /** Elements per dimension, the contiguous one first (ggml's `ne`), one to four of them. */
  readonly shape: readonly number[];
  /** Index into `GgufModel.files`. */
  readonly file: number;
  /** Absolute byte offset in that file. */
  readonly offset: number;
  readonly bytes: number;
}

/** Everything a GGUF model says about itself; of a split model, all parts together. */
export interface GgufModel {
  /** Paths or URLs, in order of the parts. */
  readonly files: readonly string[];
  /** Bytes of each file. */
  readonly fileBytes: readonly number[];
  readonly version: number;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: ReadonlyMap<string, GgufTensor>;
}
