import { StelliumError } from "../errors.ts";
import { type Buffer, type Device, type Ggml, required } from "../native/ggml.ts";
import { viewNative } from "../native/memory.ts";
import { rowBytes } from "../native/tensorTypes.ts";
import { type Layout, Layouts, storedBytes } from "./layout.ts";
import { type Band, bandsOf, repackRows } from "./repack.ts";
import type { StoredTensor } from "./slice.ts";
import { sliceBufferBytes } from "./sliceReader.ts";

/** Takes bytes that arrive in pieces of any size in other pieces. */
export class ByteFeed {
  readonly #chunks: AsyncIterator<Uint8Array>;
  readonly #mismatch: (reason: string) => Error;
  #rest: Uint8Array = new Uint8Array(0);

  /** @param mismatch - makes the error to throw if there are fewer bytes than are wanted, or more */
  constructor(chunks: AsyncIterable<Uint8Array>, mismatch: (reason: string) => Error) {
    this.#chunks = chunks[Symbol.asyncIterator]();
    this.#mismatch = mismatch;
  }

  /** The next `length` bytes, valid until the next call. Throws what the source does, and `mismatch`. */
  async take(length: number): Promise<Uint8Array> {
    if (this.#rest.length === 0 && length > 0) await this.#next(length);
    if (this.#rest.length >= length) return this.#cut(length);
    const taken = new Uint8Array(length);
    for (let done = 0; done < length; ) {
      if (this.#rest.length === 0) await this.#next(length - done);
      const piece = this.#cut(Math.min(length - done, this.#rest.length));
      taken.set(piece, done);
      done += piece.length;
    }
    return taken;
  }

  /** Throws if bytes are left. */
  async expectEnd(): Promise<void> {
    const more = this.#rest.length > 0 || !(await this.#chunks.next()).done;
    if (more) throw this.#mismatch("has more bytes than it should");
  }

  /** Tells the source that no more is wanted. */
  async close(): Promise<void> {
    await this.#chunks.return?.();
  }

  #cut(length: number): Uint8Array {
    const piece = this.#rest.subarray(0, length);
    this.#rest = this.#rest.subarray(length);
    return piece;
  }

  async #next(missing: number): Promise<void> {
    const { done, value } = await this.#chunks.next();
    if (done) throw this.#mismatch(`ends ${missing} bytes too early`);
    this.#rest = value;
  }
}

/** Brings plain bytes into the layouts that the device computes from. */
export class SliceConverter implements Disposable {
  readonly #ggml: Ggml;
  readonly #layouts: Layouts;
  readonly #scratch = new Map<Layout, { buffer: Buffer; bytes: number }>();

  constructor(ggml: Ggml, device: Device) {
    this.#ggml = ggml;
    this.#layouts = new Layouts(ggml, device);
  }

  /**
   * The bytes of a tensor as they are stored, piece by piece, from its plain bytes. A piece is valid until the next.
   * Takes a few times `bufferBytes` of memory, except for layouts that do not convert in parts: those take the tensor.
   * Throws what `plain` does, and `SLICE_INVALID` if this device stores the tensor differently.
   */
  async *convert(tensor: StoredTensor, plain: ByteFeed, bufferBytes = sliceBufferBytes): AsyncGenerator<Uint8Array> {
    const layout = this.#layouts.forPart(tensor);
    if (layout.name !== tensor.layout) throw this.#otherLayout(tensor, layout.name);
    const row = rowBytes(tensor.type, tensor.columns.count);
    let done = 0;
    for (const band of bandsOf(tensor, layout, row, bufferBytes)) {
      const rows = await plain.take(band.rows * row);
      const piece = layout.plain ? rows : this.#repacked(tensor, layout, band, rows);
      done += piece.length;
      if (done <= tensor.bytes) yield piece;
    }
    if (done > tensor.bytes) throw this.#otherLayout(tensor, `${layout.name} of ${done} bytes`);
    if (done < tensor.bytes) yield new Uint8Array(tensor.bytes - done);
  }

  #repacked(tensor: StoredTensor, layout: Layout, { rows, bytes }: Band, plain: Uint8Array): Uint8Array {
    const buffer = this.#room(layout, Math.max(bytes, storedBytes(this.#ggml, layout, tensor, rows)));
    const address = this.#ggml.bufferBase(buffer);
    repackRows(this.#ggml, tensor, rows, plain, { buffer, address });
    return viewNative(address, bytes);
  }

  #room(layout: Layout, bytes: number): Buffer {
    const known = this.#scratch.get(layout);
    if (known !== undefined && known.bytes >= bytes) return known.buffer;
    if (known !== undefined) this.#ggml.freeBuffer(known.buffer);
    this.#scratch.delete(layout);
    const buffer = required(this.#ggml.allocateBuffer(layout.bufferType, bytes), "making room for converting weights");
    // A layout may leave bytes between rows as they are; those are stored too.
    viewNative(this.#ggml.bufferBase(buffer), bytes).fill(0);
    this.#scratch.set(layout, { buffer, bytes });
    return buffer;
  }

  #otherLayout({ name, layout, bytes }: StoredTensor, found: string): StelliumError {
    const reason = `its tensor ${name} is laid out as ${layout} of ${bytes} bytes, but this device does it as ${found}`;
    return new StelliumError("SLICE_INVALID", { path: "being written", reason });
  }

  [Symbol.dispose](): void {
    for (const { buffer } of this.#scratch.values()) this.#ggml.freeBuffer(buffer);
    this.#scratch.clear();
  }
}
