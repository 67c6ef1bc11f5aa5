import type { Prepared } from "./prepared.ts";

/**
 * Sums of f32 by SIMD. ggml has no such function to call, and a loop of JavaScript adds one element at a time; a
 * WebAssembly function of a few instructions adds four, at the price of copying in and out: 3 times faster altogether.
 */

/** Elements that are added at once; what is longer is cut. Both summands together fill one page of memory. */
export const sumChunk = 8192;

/** Where decoded values are put to be added: at most `sumChunk` at a time. */
export interface Adder {
  /** The second summand; its content is undefined after an addition. */
  readonly summand: Float32Array;
  /** Prepares adding the first `values.length` elements of `summand` to `values`, each sum rounded once. */
  addingTo(values: Float32Array): Prepared;
}

/** As much of it as is used here: the types of Node leave it out. */
declare const WebAssembly: {
  validate(bytes: Uint8Array<ArrayBuffer>): boolean;
  readonly Module: new (bytes: Uint8Array<ArrayBuffer>) => object;
  readonly Instance: new (module: object) => { readonly exports: unknown };
};

let shared: Adder | undefined;

/** This thread's adder. */
export function openAdder(): Adder {
  shared ??= simdAdder() ?? plainAdder();
  return shared;
}

/** An adder that runs everywhere. */
export function plainAdder(): Adder {
  const summand = new Float32Array(sumChunk);
  return {
    summand,
    addingTo: (values) => () => {
      for (let i = 0; i < values.length; i++) values[i]! += summand[i]!;
    },
  };
}

function simdAdder(): Adder | undefined {
  const bytes = Uint8Array.from(moduleBytes());
  if (!WebAssembly.validate(bytes)) return undefined;
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes));
  const { memory, add } = exports as { memory: { buffer: ArrayBuffer }; add: (bytes: number) => void };
  const sums = new Float32Array(memory.buffer, 0, sumChunk);
  const summand = new Float32Array(memory.buffer, sumChunk * 4, sumChunk);
  return {
    summand,
    addingTo(values) {
      const { byteLength } = values;
      const result = sums.subarray(0, values.length);
      return () => {
        result.set(values);
        add(byteLength);
        values.set(result);
      };
    },
  };
}

/**
 * ```wat
 * (module
 *   (func (export "add") (param $bytes i32) (local $at i32)
 *     (loop $next
 *       ;; four times, with offsets 0, 16, 32 and 48:
 *       (v128.store (local.get $at) (f32x4.add
 *         (v128.load (local.get $at)) (v128.load offset=32768 (local.get $at))))
 *       (local.set $at (i32.add (local.get $at) (i32.const 64)))
 *       (br_if $next (i32.lt_u (local.get $at) (local.get $bytes)))))
 *   (memory (export "memory") 1))
 * ```
 */
function moduleBytes(): number[] {
  const header = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0];
  const types = section(1, [1, 0x60, 1, 0x7f, 0]);
  const functions = section(3, [1, 0]);
  const memories = section(5, [1, 0, 1]);
  const exports = section(7, [2, ...named("add", 0), ...named("memory", 2)]);
  const body = [1, 1, 0x7f, ...loop(), 0x0b];
  return [...header, ...types, ...functions, ...memories, ...exports, ...section(10, [1, ...sized(body)])];
}

function loop(): number[] {
  const [at, bytes] = [
    [0x20, 1],
    [0x20, 0],
  ] as const;
  const sums = [0, 16, 32, 48].flatMap((offset) => {
    const load = (from: number) => [...at, 0xfd, 0, 4, ...leb(from)];
    return [...at, ...load(offset), ...load(offset + sumChunk * 4), 0xfd, ...leb(0xe4), 0xfd, 11, 4, ...leb(offset)];
  });
  const step = [...at, 0x41, 0xc0, 0, 0x6a, 0x21, 1];
  return [0x03, 0x40, ...sums, ...step, ...at, ...bytes, 0x49, 0x0d, 0, 0x0b];
}

function section(id: number, content: number[]): number[] {
  return [id, ...sized(content)];
}

function sized(content: number[]): number[] {
  return [...leb(content.length), ...content];
}

function named(name: string, kind: number): number[] {
  return [...sized([...new TextEncoder().encode(name)]), kind, 0];
}

/** An unsigned number in WebAssembly's variable length. */
function leb(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...leb(value >>> 7)];
}
