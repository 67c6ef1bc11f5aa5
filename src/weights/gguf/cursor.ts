import { StelliumError } from "../../errors.ts";
import type { ByteSource } from "../byteSource.ts";

const windowBytes = 2 * 2 ** 20;
const longestString = 8 * 2 ** 20;

/**
 * Room for what a header's objects take beyond the bytes they have in the file, so that a small hostile file cannot
 * fill the memory: with the window and what awaits the garbage collector, the process grows by less than 64 MB more
 * than the file's size. The largest vocabularies (260,000 tokens and 510,000 merges) need 28 MB.
 */
export interface HeaderBudget {
  left: number;
}

/** A fresh budget; the parts of a split model share one. */
export function headerBudget(): HeaderBudget {
  return { left: 32 * 2 ** 20 };
}

/**
 * Reads little-endian values one after the other, through a window that is refilled from a source. The plain methods
 * take bytes that `need` has made present; every length is checked against the source's size before it is used.
 */
export class Cursor {
  readonly #source: ByteSource;
  readonly #budget: HeaderBudget;
  #window: Buffer = Buffer.alloc(0);
  #view: DataView = new DataView(new ArrayBuffer(0));
  #windowStart = 0;
  #at = 0;

  constructor(source: ByteSource, budget: HeaderBudget) {
    this.#source = source;
    this.#budget = budget;
  }

  /** Byte offset in the source of what is read next. */
  get offset(): number {
    return this.#windowStart + this.#at;
  }

  /** Name of the source. */
  get name(): string {
    return this.#source.name;
  }

  /** Bytes from here to the end of the source. */
  get remaining(): number {
    return this.#source.size - this.offset;
  }

  /** An error that names the source, the reason and the byte at fault (by default the one to be read next). */
  invalid(reason: string, offset: number = this.offset): StelliumError {
    return new StelliumError("GGUF_INVALID", { path: this.name, reason, offset });
  }

  /** Takes `bytes` of memory from the budget. Throws `GGUF_INVALID` where it does not reach. */
  charge(bytes: number): void {
    if (bytes > this.#budget.left) throw this.invalid("its metadata would take more memory than any real model's");
    this.#budget.left -= bytes;
  }

  /** Throws `GGUF_INVALID` unless `count` items of at least `bytes` each can follow. */
  expect(count: number, bytes: number, what: string): void {
    if (count * bytes > this.remaining) throw this.invalid(`it ends before the end of ${what}`);
  }

  /** Makes the next `bytes` present. Throws `GGUF_INVALID` where the source ends before. */
  async need(bytes: number, what: string): Promise<void> {
    if (this.#holds(bytes)) return;
    this.expect(1, bytes, what);
    const start = this.offset;
    this.#show(await this.#source.read(start, Math.min(this.remaining, Math.max(windowBytes, bytes))), start);
  }

  uint8(): number {
    return this.#view.getUint8(this.#advance(1));
  }

  uint32(): number {
    return this.#view.getUint32(this.#advance(4), true);
  }

  /** An unsigned 64-bit length, count or offset. Throws `GGUF_INVALID` beyond 2^53 - 1. */
  size(what: string): number {
    const value = Number(this.#view.getBigUint64(this.#at, true));
    if (!Number.isSafeInteger(value)) throw this.invalid(`${what} is out of range`);
    this.#at += 8;
    return value;
  }

  /** The value that `read` finds in the next `bytes` bytes. */
  value<T>(bytes: number, read: (view: DataView, at: number) => T): T {
    return read(this.#view, this.#advance(bytes));
  }

  /** Copies the next `count` bytes to memory of their own, aligned for any typed array. */
  async bytes(count: number, what: string): Promise<Uint8Array> {
    if (count > windowBytes) return this.#bytesPastWindow(count, what);
    await this.need(count, what);
    const start = this.#advance(count);
    return new Uint8Array(this.#window.subarray(start, start + count));
  }

  /** Reads a string of at most `limit` bytes. */
  async string(what: string, limit: number = longestString): Promise<string> {
    await this.need(8, what);
    const start = this.offset;
    const length = this.size(`the length of ${what}`);
    if (length > limit) throw this.invalid(`${what} is longer than ${limit} bytes`, start);
    await this.need(length, what);
    return this.#text(length);
  }

  /** Reads a string if the window holds all of it, else nothing. Spares the long arrays a promise per string. */
  stringAtHand(): string | undefined {
    if (!this.#holds(8)) return undefined;
    const length = this.#view.getUint32(this.#at, true);
    if (this.#view.getUint32(this.#at + 4, true) !== 0 || !this.#holds(8 + length)) return undefined;
    this.#at += 8;
    return this.#text(length);
  }

  #text(length: number): string {
    const start = this.#advance(length);
    const text = this.#window.toString("utf8", start, start + length);
    // Text beyond ASCII may be kept with two bytes per character.
    if (text.length !== length) this.charge(Math.max(0, 2 * text.length - length));
    return text;
  }

  async #bytesPastWindow(count: number, what: string): Promise<Uint8Array> {
    this.expect(1, count, what);
    const start = this.offset;
    this.#show(new Uint8Array(0), start + count);
    const bytes = await this.#source.read(start, count);
    return bytes.byteOffset % 8 === 0 ? bytes : new Uint8Array(bytes);
  }

  #holds(bytes: number): boolean {
    return bytes <= this.#window.length - this.#at;
  }

  #advance(bytes: number): number {
    const at = this.#at;
    this.#at += bytes;
    return at;
  }

  #show(bytes: Uint8Array, start: number): void {
    this.#window = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#windowStart = start;
    this.#at = 0;
  }
}
