import { constants } from "node:buffer";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { StelliumError } from "../errors.ts";
import type { Pointer } from "./ggml.ts";
import koffi from "./koffi.ts";
import { nativeLibraries } from "./libraries.ts";
import { nextPage, pageSize, pageStart } from "./pageSize.ts";

/** Native memory that several threads may see at the same address. Its owner frees it. */
export interface NativeMemory extends Disposable {
  readonly address: Pointer;
  readonly bytes: number;
  /** The same memory, as JavaScript sees it. Not to be used after disposal. Throws `RangeError` if it is too large for that. */
  readonly view: Uint8Array;
}

/** Allocates `bytes` of memory, aligned as ggml wants it (64 bytes). Its content is undefined. Throws `OUT_OF_MEMORY`. */
export function allocateNative(bytes: number): NativeMemory {
  const { base } = nativeLibraries();
  const address = base.func("void *ggml_aligned_malloc(size_t)")(bytes) as Pointer | null;
  if (address === null) {
    throw new StelliumError("OUT_OF_MEMORY", { what: "native memory", needed: `${bytes} bytes`, available: "less" });
  }
  const free = base.func("void ggml_aligned_free(void *, size_t)");
  return nativeMemory(address, bytes, () => free(address, bytes));
}

function nativeMemory(address: Pointer, bytes: number, free: () => void): NativeMemory {
  let view: Uint8Array | undefined;
  return {
    address,
    bytes,
    get view() {
      view ??= viewNative(address, bytes);
      return view;
    },
    [Symbol.dispose]: free,
  };
}

/**
 * Allocates `bytes` of memory for direct I/O: it starts with a page, and has huge pages if there is room for one and the
 * system has them. A disk takes a read into scattered small pages in many small requests. Memory that is never touched
 * costs nothing.
 *
 * @param page - bytes of the system's pages
 */
export function allocatePages(bytes: number, page = pageSize()): NativeMemory {
  const border = bytes < hugePageBytes ? page : Math.max(page, hugePageBytes);
  const whole = allocateNative(bytes + border);
  const address = nextPage(whole.address, border);
  preferHugePages(address, bytes);
  return nativeMemory(address, bytes, () => whole[Symbol.dispose]());
}

/**
 * `bytes` of native memory at `address`, without copying. Valid as long as that memory is. Throws `RangeError` if that is
 * more than an array can have; `NativeBytes` sees more.
 */
export function viewNative(address: Pointer, bytes: number): Uint8Array {
  // V8 does not throw then, but ends the process.
  if (bytes > constants.MAX_LENGTH) throw new RangeError(`an array cannot have ${bytes} bytes`);
  return new Uint8Array(koffi.view(address, bytes));
}

/** The same for `count` values of f32. */
export function viewFloats(address: Pointer, count: number): Float32Array {
  const { buffer, byteOffset } = viewNative(address, 4 * count);
  return new Float32Array(buffer, byteOffset, count);
}

/** The same for `count` values of i32. */
export function viewIntegers(address: Pointer, count: number): Int32Array {
  const { buffer, byteOffset } = viewNative(address, 4 * count);
  return new Int32Array(buffer, byteOffset, count);
}

/** Native memory of any size, which JavaScript sees in parts. Valid as long as that memory is. */
export class NativeBytes {
  readonly bytes: number;
  readonly #address: Pointer;
  /**
   * The view that begins at each multiple of `mostPartBytes`, twice as long. They are kept: each new one counts as new
   * memory, which starts the garbage collector.
   */
  readonly #views: Uint8Array[] = [];

  constructor(address: Pointer, bytes: number) {
    this.#address = address;
    this.bytes = bytes;
  }

  /** @param bytes - at most `mostPartBytes` */
  part(offset: number, bytes: number): Uint8Array {
    if (bytes > mostPartBytes || offset + bytes > this.bytes) throw new RangeError(`no ${bytes} bytes at ${offset}`);
    const index = Math.floor(offset / mostPartBytes);
    const from = offset - index * mostPartBytes;
    return this.#viewOf(index).subarray(from, from + bytes);
  }

  /** `bytes` from `offset` on, one part after the other. */
  *parts(offset: number, bytes: number): Generator<Uint8Array> {
    for (let done = 0; done < bytes; done += mostPartBytes) {
      yield this.part(offset + done, Math.min(mostPartBytes, bytes - done));
    }
  }

  #viewOf(index: number): Uint8Array {
    let view = this.#views[index];
    if (view === undefined) {
      const start = index * mostPartBytes;
      view = viewNative(this.#address + BigInt(start), Math.min(2 * mostPartBytes, this.bytes - start));
      this.#views[index] = view;
    }
    return view;
  }
}

/** Bytes of the largest part of `NativeBytes`. */
export const mostPartBytes = 2 ** 30;

/** Linux's `MADV_HUGEPAGE`. */
const adviceHugePages = 14;
/** Page size of most x64 and arm64 systems, in bytes. */
const hugePageBytes = 2 ** 21;

/**
 * Asks the system to back large memory by huge pages: reading it takes fewer address translations, and filling it for
 * the first time fewer faults. To be called before the memory is touched; does nothing if the system has no huge pages.
 */
export function preferHugePages(address: Pointer, bytes: number): void {
  if (process.platform !== "linux") return;
  const { start, bytes: whole } = wholePages(address, bytes);
  if (whole === 0) return;
  const madvise = koffi.load(null).func("int madvise(void *, size_t, int)");
  madvise(start, whole, adviceHugePages);
}

/** The pages that lie wholly within memory: system calls about pages refuse an address within one. */
export function wholePages(address: Pointer, bytes: number, page = pageSize()): { start: Pointer; bytes: number } {
  const [start, end] = [nextPage(address, page), pageStart(address + BigInt(bytes), page)];
  return { start, bytes: Math.max(0, Number(end - start)) };
}

/**
 * Gives memory that is of no more use back to the system: buffers that JavaScript has not got round to freeing, and what
 * the C library keeps for later. For the moment between what takes much of it and what will.
 */
export function returnMemory(): void {
  setFlagsFromString("--expose-gc");
  (runInNewContext("gc") as () => void)();
  if (process.platform !== "linux") return;
  try {
    koffi.load(null).func("int malloc_trim(size_t)")(0);
  } catch {
    // A C library other than glibc.
    return;
  }
}
