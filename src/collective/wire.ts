import { openRows, type RowConversions } from "../native/rows.ts";
import { type Adder, openAdder, sumChunk } from "./sum.ts";
import { type WireName, wireBlocks, wireBytes } from "./wireBlock.ts";

export { type WireName, wireNames } from "./wireBlock.ts";

/**
 * A wire type: writes f32 values as bytes and back. What is decoded is the same on every device. Values that are too
 * large for it saturate (f16 at 65,504, q8_0 at 8,319,008) and are counted. What is no finite number stays none; in
 * q8_0 it makes a NaN of its whole block.
 */
export interface Wire {
  readonly name: WireName;
  /** Bytes and elements of what is encoded as one. */
  readonly blockBytes: number;
  readonly blockElements: number;
  /** Bytes that `elements` values take; the last block is filled up. */
  bytes(elements: number): number;
  /** Encodes all of `values` to the start of `into`. */
  encode(values: Float32Array, into: Uint8Array): void;
  /** Decodes `into.length` values. `bytes` starts at a block, 4-byte aligned in its buffer. */
  decode(bytes: Uint8Array, into: Float32Array): void;
  /** Decodes and adds `into.length` values, each sum rounded once to f32. */
  accumulate(bytes: Uint8Array, into: Float32Array): void;
  /** How many finite values have been too large so far. */
  readonly saturated: number;
}

/** How a type turns values into bytes and back. Elements are a multiple of the block's. */
interface Encoding {
  readonly name: WireName;
  readonly blockBytes: number;
  readonly blockElements: number;
  /** Largest magnitude that it can hold. */
  readonly limit: number;
  encode(values: Float32Array, into: Uint8Array): void;
  decode(bytes: Uint8Array, into: Float32Array): void;
  /** Makes a block that has been encoded decode to NaN, for types that cannot hold one value that is no number. */
  spoil?(block: Uint8Array): void;
}

/** Opens a wire type in this thread. Throws where ggml cannot be loaded. */
export function openWire(name: WireName): Wire {
  const rows = openRows();
  return new EncodedWire(encodings[name](rows), rows, openAdder());
}

const encodings: Record<WireName, (rows: RowConversions) => Encoding> = {
  f32: () => ({
    name: "f32",
    ...wireBlocks.f32,
    limit: Number.POSITIVE_INFINITY,
    encode: (values, into) => floatsOf(into, values.length).set(values),
    decode: (bytes, into) => into.set(floatsOf(bytes, into.length)),
  }),
  f16: (rows) => ({
    name: "f16",
    ...wireBlocks.f16,
    limit: 65504,
    encode: (values, into) => rows.toHalf(values, into, values.length),
    decode: (bytes, into) => rows.fromHalf(bytes, into, into.length),
  }),
  // Blocks of 32: their scale in f16, which is the largest magnitude / 127, and 32 signed bytes.
  q8_0: (rows) => ({
    name: "q8_0",
    ...wireBlocks.q8_0,
    limit: 65504 * 127,
    encode: (values, into) => rows.toQ8(values, into, values.length),
    decode: (bytes, into) => rows.fromQ8(bytes, into, into.length),
    spoil: (block) => block.set([0x00, 0x7e]),
  }),
};

class EncodedWire implements Wire {
  readonly name: WireName;
  readonly blockBytes: number;
  readonly blockElements: number;
  saturated = 0;
  readonly #encoding: Encoding;
  readonly #rows: RowConversions;
  readonly #adder: Adder;
  readonly #lastBlock: Float32Array;

  constructor(encoding: Encoding, rows: RowConversions, adder: Adder) {
    this.name = encoding.name;
    this.blockBytes = encoding.blockBytes;
    this.blockElements = encoding.blockElements;
    this.#encoding = encoding;
    this.#rows = rows;
    this.#adder = adder;
    this.#lastBlock = new Float32Array(encoding.blockElements);
  }

  bytes(elements: number): number {
    return wireBytes(this.name, elements);
  }

  encode(values: Float32Array, into: Uint8Array): void {
    if (this.#fits(values)) this.#encode(values, into);
    else this.#encodeClamped(values, into);
  }

  #encode(values: Float32Array, into: Uint8Array): void {
    const whole = this.#wholeBlocks(values.length);
    if (whole > 0) this.#encoding.encode(values.subarray(0, whole), into);
    if (whole === values.length) return;
    this.#lastBlock.fill(0).set(values.subarray(whole));
    this.#encoding.encode(this.#lastBlock, into.subarray(this.bytes(whole)));
  }

  decode(bytes: Uint8Array, into: Float32Array): void {
    const whole = this.#wholeBlocks(into.length);
    if (whole > 0) this.#encoding.decode(bytes, into.subarray(0, whole));
    if (whole === into.length) return;
    this.#encoding.decode(bytes.subarray(this.bytes(whole)), this.#lastBlock);
    into.set(this.#lastBlock.subarray(0, into.length - whole), whole);
  }

  accumulate(bytes: Uint8Array, into: Float32Array): void {
    for (let start = 0; start < into.length; start += sumChunk) {
      const sums = into.subarray(start, start + sumChunk);
      this.decode(bytes.subarray(this.bytes(start)), this.#adder.summand.subarray(0, sums.length));
      this.#adder.addTo(sums);
    }
  }

  #wholeBlocks(elements: number): number {
    return elements - (elements % this.blockElements);
  }

  /**
   * The norm bounds every value and costs next to nothing, so that values are looked at one by one only where it is
   * large. Half the limit, since the squares are summed up in f32.
   */
  #fits(values: Float32Array): boolean {
    const { limit } = this.#encoding;
    return limit === Number.POSITIVE_INFINITY || this.#rows.squares(values) < (limit / 2) ** 2;
  }

  #encodeClamped(values: Float32Array, into: Uint8Array): void {
    const { limit, spoil } = this.#encoding;
    this.#encode(
      values.map((value) => this.#clamp(value, limit)),
      into,
    );
    if (spoil === undefined) return;
    for (let i = 0; i < values.length; i++) {
      if (Number.isFinite(values[i])) continue;
      const block = Math.floor(i / this.blockElements) * this.blockBytes;
      spoil(into.subarray(block, block + this.blockBytes));
    }
  }

  #clamp(value: number, limit: number): number {
    if (Math.abs(value) <= limit || !Number.isFinite(value)) return value;
    this.saturated++;
    return Math.sign(value) * limit;
  }
}

function floatsOf(bytes: Uint8Array, elements: number): Float32Array {
  return new Float32Array(bytes.buffer, bytes.byteOffset, elements);
}
