import { StelliumError } from "../errors.ts";
import type { Buffer, Context, Device, Ggml, Tensor } from "../native/ggml.ts";
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

/** Bytes of the KV cache of a whole context. */
export function kvCacheBytes(h: Hyperparameters, type: KvType, context: number): number {
  return cellBytes(h, type) * 2 * h.blockCount * paddedCells(context);
}

/** Keys and values of every layer. A cell holds one token's; memory of cells not used yet is not touched. */
export class KvCache implements Disposable {
  /** (KV heads * head length, cells), by layer. */
  readonly keys: readonly Tensor[];
  readonly values: readonly Tensor[];
  /** Bytes of one head of one cell. */
  readonly headBytes: number;
  readonly #ggml: Ggml;
  readonly #context: Context;
  /** Null where the rank has no heads. */
  readonly #buffer: Buffer | null;
  readonly #cellBytes: number;
  #zeroed = 0;

  /** Makes room for `context` tokens. Throws `OUT_OF_MEMORY`. */
  constructor(ggml: Ggml, device: Device, h: Hyperparameters, type: KvType, context: number) {
    this.#ggml = ggml;
    this.#cellBytes = cellBytes(h, type);
    this.headBytes = h.headCountKv > 0 ? this.#cellBytes / h.headCountKv : 0;
    this.#context = describingContext(ggml, 2 * h.blockCount);
    const tensors = () =>
      Array.from({ length: h.blockCount }, () =>
        ggml.newTensor2d(
          this.#context,
          tensorTypes[kvTypes[type]].id,
          h.headCountKv * h.keyLength,
          paddedCells(context),
        ),
      );
    this.keys = h.headCountKv > 0 ? tensors() : [];
    this.values = h.headCountKv > 0 ? tensors() : [];
    this.#buffer = h.headCountKv > 0 ? ggml.allocateTensors(this.#context, ggml.deviceBufferType(device)) : null;
    if (this.#buffer === null && h.headCountKv > 0) throw outOfMemory(kvCacheBytes(h, type, context));
  }

  /**
   * Attention multiplies masked cells by zero, and zero times what memory happens to hold may be no number.
   * So cells are zeroed before they are first looked at.
   */
  zeroUpTo(cells: number): void {
    if (cells <= this.#zeroed) return;
    const [from, to] = [this.#zeroed * this.#cellBytes, cells * this.#cellBytes];
    for (const tensor of [...this.keys, ...this.values]) this.#ggml.fillTensor(tensor, 0, from, to - from);
    this.#zeroed = cells;
  }

  [Symbol.dispose](): void {
    if (this.#buffer !== null) this.#ggml.freeBuffer(this.#buffer);
    this.#ggml.free(this.#context);
  }
}

function outOfMemory(bytes: number): StelliumError {
  return new StelliumError("OUT_OF_MEMORY", { what: "the KV cache", needed: `${bytes} bytes`, available: "less" });
}
