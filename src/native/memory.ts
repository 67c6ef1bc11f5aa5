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
  /** The same memory, as JavaScript sees it. Not to be used after disposal. */
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
  return { address, bytes, view: viewNative(address, bytes), [Symbol.dispose]: () => free(address, bytes) };
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
  return { address, bytes, view: viewNative(address, bytes), [Symbol.dispose]: () => whole[Symbol.dispose]() };
}

/** `bytes` of native memory at `address`, without copying. Valid as long as that memory is. */
export function viewNative(address: Pointer, bytes: number): Uint8Array {
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
