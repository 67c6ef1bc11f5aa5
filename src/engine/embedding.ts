import { closeSync, openSync, readSync } from "node:fs";
import { reasonOf, StelliumError } from "../errors.ts";
import type { Ggml } from "../native/ggml.ts";
import { rowBytes } from "../native/tensorTypes.ts";
import type { GgufTensor } from "../weights/gguf/model.ts";

/** The embedding, read row by row from the model file: a few kilobytes a token instead of a matrix in memory. */
export class Embedding implements Disposable {
  readonly #path: string;
  readonly #descriptor: number;
  readonly #tensor: GgufTensor;
  readonly #length: number;
  readonly #scale: number;
  readonly #row: Uint8Array;
  readonly #toFloat: (row: Uint8Array, values: Float32Array, elements: number) => void;

  /** @param scale - factor on all values. Throws `FILE_UNREADABLE`. */
  constructor(ggml: Ggml, path: string, tensor: GgufTensor, scale = 1) {
    this.#path = path;
    this.#tensor = tensor;
    this.#scale = Math.fround(scale);
    this.#length = tensor.shape[0]!;
    this.#row = new Uint8Array(rowBytes(tensor.type, this.#length));
    this.#toFloat = tensor.type === "F32" ? copyFloats : ggml.rowToFloat(tensor.type);
    this.#descriptor = this.#orUnreadable(() => openSync(path, "r"));
  }

  /** Writes the rows of `tokens` to `values`, (embedding length, tokens). */
  read(tokens: Int32Array, values: Float32Array): void {
    tokens.forEach((token, i) => {
      this.#orUnreadable(() => this.#readRow(token));
      const state = values.subarray(i * this.#length, (i + 1) * this.#length);
      this.#toFloat(this.#row, state, this.#length);
      if (this.#scale !== 1) for (let j = 0; j < state.length; j++) state[j]! *= this.#scale;
    });
  }

  [Symbol.dispose](): void {
    closeSync(this.#descriptor);
  }

  #readRow(token: number): void {
    const offset = this.#tensor.offset + token * this.#row.length;
    const read = readSync(this.#descriptor, this.#row, 0, this.#row.length, offset);
    if (read < this.#row.length) throw new Error(`it ends before byte ${offset + this.#row.length}`);
  }

  #orUnreadable<T>(action: () => T): T {
    try {
      return action();
    } catch (error) {
      throw new StelliumError("FILE_UNREADABLE", { path: this.#path, reason: reasonOf(error) }, { cause: error });
    }
  }
}

function copyFloats(row: Uint8Array, values: Float32Array): void {
  new Uint8Array(values.buffer, values.byteOffset, values.byteLength).set(row);
}
