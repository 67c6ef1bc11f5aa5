import { openRows, type RowConversions } from "../native/rows.ts";
import { inTurn, type Prepared } from "./prepared.ts";
import { type Adder, openAdder, sumChunk } from "./sum.ts";
import { type WireName, wireBlocks, wireBytes } from "./wireBlock.ts";

export { type WireName, wireNames } from "./wireBlock.ts";

/**
 * A wire type: writes f32 values as bytes and back, by actions that are prepared for fixed places in memory. What is decoded is the same on every device. Values that are too
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
  /** Prepares encoding all of `values` to the start of `into`, which is 4-byte aligned in its buffer. */
  encoding(values: Float32Array, into: Uint8Array): Prepared;
  /** Prepares decoding `into.length` values. `bytes` starts at a block, 4-byte aligned in its buffer. */
  decoding(bytes: Uint8Array, into: Float32Array): Prepared;
  /** Prepares decoding and adding `into.length` values, each sum rounded once to f32. */
  accumulating(bytes: Uint8Array, into: Float32Array): Prepared;
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
  encoding(values: Float32Array, into: Uint8Array): Prepared;
  decoding(bytes: Uint8Array, into: Float32Array): Prepared;
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
    encoding(values, into) {
      const encoded = floatsOf(into, values.length);
      return () => encoded.set(values);
    },
    decoding(bytes, into) {
      const encoded = floatsOf(bytes, into.length);
      return () => into.set(encoded);
    },
  }),
  f16: (rows) => ({
    name: "f16",
    ...wireBlocks.f16,
    limit: 65504,
    encoding: (values, into) => () => rows.toHalf(values, into, values.length),
    decoding: (bytes, into) => () => rows.fromHalf(bytes, into, into.length),
  }),
  // Blocks of 32: their scale in f16, which is the largest magnitude / 127, and 32 signed bytes.
  q8_0: (rows) => ({
    name: "q8_0",
    ...wireBlocks.q8_0,
    limit: 65504 * 127,
    encoding: (values, into) => () => rows.toQ8(values, into, values.length),
    decoding: (bytes, into) => () => rows.fromQ8(bytes, into, into.length),
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

  encoding(values: Float32Array, into: Uint8Array): Prepared {
    const encode = this.#encodingBlocks(values, into);
    return () => {
      if (this.#fits(values)) encode();
      else this.#encodeClamped(values, into);
    };
  }

  #encodingBlocks(values: Float32Array, into: Uint8Array): Prepared {
    const whole = this.#wholeBlocks(values.length);
    const encodeWhole = this.#encoding.encoding(values.subarray(0, whole), into);
    if (whole === values.length) return encodeWhole;
    const rest = values.subarray(whole);
    const encodeLast = this.#encoding.encoding(this.#lastBlock, into.subarray(this.bytes(whole)));
    return () => {
      encodeWhole();
      this.#lastBlock.fill(0).set(rest);
      encodeLast();
    };
  }

  decoding(bytes: Uint8Array, into: Float32Array): Prepared {
    const whole = this.#wholeBlocks(into.length);
    const decodeWhole = this.#encoding.decoding(bytes, into.subarray(0, whole));
    if (whole === into.length) return decodeWhole;
    const decodeLast = this.#encoding.decoding(bytes.subarray(this.bytes(whole)), this.#lastBlock);
    const [last, rest] = [this.#lastBlock.subarray(0, into.length - whole), into.subarray(whole)];
    return () => {
      decodeWhole();
      decodeLast();
      rest.set(last);
    };
  }

  accumulating(bytes: Uint8Array, into: Float32Array): Prepared {
    const chunks = Array.from({ length: Math.ceil(into.length / sumChunk) }, (_, i) => {
      const sums = into.subarray(i * sumChunk, (i + 1) * sumChunk);
      const summand = this.#adder.summand.subarray(0, sums.length);
      return [this.decoding(bytes.subarray(this.bytes(i * sumChunk)), summand), this.#adder.addingTo(sums)];
    });
    return inTurn(chunks.flat());
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
    const clamped = values.map((value) => this.#clamp(value, limit));
    this.#encodingBlocks(clamped, into)();
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
