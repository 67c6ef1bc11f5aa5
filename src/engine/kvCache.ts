import { StelliumError } from "../errors.ts";
import type { Buffer, Context, Device, Ggml, Pointer, Tensor } from "../native/ggml.ts";
import { rowBytes, tensorTypes } from "../weights/gguf/types.ts";
import { describingContext } from "../weights/layout.ts";
import type { Hyperparameters } from "./hyperparameters.ts";

/** Types that keys and values can be kept in, by the names of the option `--kv`. */
export const kvTypes = { f32: "F32", f16: "F16", q8_0: "Q8_0" } as const;

/** A type of KV cache. */
export type KvType = keyof typeof kvTypes;

/** Attention looks at cells in such steps, so that a graph serves as many tokens. */
export const cellStep = 256;

/** `cells`, rounded up to what attention looks at. */
export function paddedCells(cells: number): number {
  return Math.ceil(cells / cellStep) * cellStep;
}

/** Bytes of the keys, or of the values, of one cell and layer. Throws `MODEL_UNSUPPORTED` where heads do not fit the type. */
export function cellBytes(h: Hyperparameters, type: KvType): number {
  const name = kvTypes[type];
  if (h.keyLength % tensorTypes[name].blockElements !== 0) {
    const reason = `heads of ${h.keyLength} values do not divide into the blocks of a ${type} KV cache`;
    throw new StelliumError("MODEL_UNSUPPORTED", { model: "this model", reason });
  }
  return rowBytes(name, h.keyLength) * h.headCountKv;
}

/** Bytes of the KV cache of `slots` whole contexts. */
export function kvCacheBytes(h: Hyperparameters, type: KvType, context: number, slots = 1): number {
  return cellBytes(h, type) * 2 * h.blockCount * paddedCells(context) * slots;
}

/** How large a KV cache is. */
export interface KvCacheSize {
  /** Tokens that a sequence may have. */
  readonly context: number;
  /** Sequences it has room for; 1 if absent. */
  readonly slots?: number | undefined;
}

/**
 * Keys and values of every layer. A cell holds one token's; the cells of a slot, which are one sequence's, follow on each
 * other. Memory of cells not used yet is not touched.
 */
export class KvCache implements Disposable {
  /** (KV heads * head length, cells of all slots), by layer. */
  readonly keys: readonly Tensor[];
  readonly values: readonly Tensor[];
  /** Bytes of one head of one cell. */
  readonly headBytes: number;
  /** Cells of each slot. */
  readonly slotCells: number;
  readonly #ggml: Ggml;
  readonly #context: Context;
  /** Null where the rank has no heads. */
  readonly #buffer: Buffer | null;
  readonly #cellBytes: number;
  /** How many of the first cells hold numbers, by slot. */
  readonly #zeroed: number[];

  /** Makes room for all slots. Throws `OUT_OF_MEMORY`. */
  constructor(ggml: Ggml, device: Device, h: Hyperparameters, type: KvType, { context, slots = 1 }: KvCacheSize) {
    this.#ggml = ggml;
    this.#cellBytes = cellBytes(h, type);
    this.slotCells = paddedCells(context);
    this.#zeroed = Array<number>(slots).fill(0);
    this.headBytes = h.headCountKv > 0 ? this.#cellBytes / h.headCountKv : 0;
    this.#context = describingContext(ggml, 2 * h.blockCount);
    const tensors = () =>
      Array.from({ length: h.blockCount }, () =>
        ggml.newTensor2d(
          this.#context,
          tensorTypes[kvTypes[type]].id,
          h.headCountKv * h.keyLength,
          this.slotCells * slots,
        ),
      );
    this.keys = h.headCountKv > 0 ? tensors() : [];
    this.values = h.headCountKv > 0 ? tensors() : [];
    this.#buffer = h.headCountKv > 0 ? ggml.allocateTensors(this.#context, ggml.deviceBufferType(device)) : null;
    if (this.#buffer === null && h.headCountKv > 0) throw outOfMemory(kvCacheBytes(h, type, context, slots));
  }

  /** Bytes of the cells of one slot. */
  get slotBytes(): number {
    return this.slotCells * this.#cellBytes;
  }

  /** Bytes of the keys and values of so many cells, over all layers. */
  bytesOf(cells: number): number {
    return cells * this.#cellBytes * (this.keys.length + this.values.length);
  }

  /**
   * Attention multiplies masked cells by zero, and zero times what memory happens to hold may be no number.
   * So a slot's cells are zeroed before they are first looked at.
   */
  zeroUpTo(slot: number, cells: number): void {
    const zeroed = this.#zeroed[slot]!;
    if (cells <= zeroed) return;
    const [from, bytes] = [this.#offset(slot) + zeroed * this.#cellBytes, (cells - zeroed) * this.#cellBytes];
    for (const tensor of this.#tensors) this.#ggml.fillTensor(tensor, 0, from, bytes);
    this.#zeroed[slot] = cells;
  }

  /** Copies the first cells of a slot to another. */
  copy(from: number, to: number, cells: number): void {
    if (from === to) return;
    const layer = new Uint8Array(cells * this.#cellBytes);
    for (const tensor of this.#tensors) {
      this.#ggml.getTensor(tensor, layer, this.#offset(from), layer.length);
      this.#ggml.setTensor(tensor, layer, this.#offset(to), layer.length);
    }
    this.#filled(to, cells);
  }

  /** Copies the first cells of a slot to memory, tensor behind tensor. */
  read(slot: number, cells: number, target: Pointer): void {
    const bytes = cells * this.#cellBytes;
    this.#tensors.forEach((tensor, i) => {
      this.#ggml.getTensor(tensor, target + BigInt(i * bytes), this.#offset(slot), bytes);
    });
  }

  /** Fills the first cells of a slot from what was read of `stored` cells, at least as many. */
  write(slot: number, cells: number, source: Pointer, stored: number): void {
    const bytes = cells * this.#cellBytes;
    this.#tensors.forEach((tensor, i) => {
      const from = source + BigInt(i * stored * this.#cellBytes);
      this.#ggml.setTensor(tensor, from, this.#offset(slot), bytes);
    });
    this.#filled(slot, cells);
  }

  [Symbol.dispose](): void {
    if (this.#buffer !== null) this.#ggml.freeBuffer(this.#buffer);
    this.#ggml.free(this.#context);
  }

  get #tensors(): Tensor[] {
    return [...this.keys, ...this.values];
  }

  #offset(slot: number): number {
    return slot * this.slotBytes;
  }

  #filled(slot: number, cells: number): void {
    this.#zeroed[slot] = Math.max(this.#zeroed[slot]!, cells);
  }
}

function outOfMemory(bytes: number): StelliumError {
  return new StelliumError("OUT_OF_MEMORY", { what: "the KV cache", needed: `${bytes} bytes`, available: "less" });
}
