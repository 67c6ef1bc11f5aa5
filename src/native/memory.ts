import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { StelliumError } from "../errors.ts";
import type { Pointer } from "./ggml.ts";
import koffi from "./koffi.ts";
import { nativeLibraries } from "./libraries.ts";

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
 * Allocates `bytes` of memory for direct I/O: from a page's border on, and of huge pages where there is room for one and the system
 * has them. A disk takes a read into scattered small pages in many small requests. Memory that is never touched costs nothing.
 */
export function allocatePages(bytes: number): NativeMemory {
  const border = bytes < Number(hugePageBytes) ? pageBytes : hugePageBytes;
  const whole = allocateNative(bytes + Number(border));
  const address = ((whole.address + border - 1n) / border) * border;
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

/** Linux's `MADV_HUGEPAGE`. */
const adviceHugePages = 14;
const pageBytes = 4096n;
/** What x64 and most arm64 systems have. */
const hugePageBytes = 2n ** 21n;

/**
 * Asks the system to back large memory by huge pages: reading it takes fewer address translations, and filling it for
 * the first time fewer faults. To be called before the memory is touched; does nothing where the system has no such.
 */
export function preferHugePages(address: Pointer, bytes: number): void {
  if (process.platform !== "linux") return;
  const start = ((address + pageBytes - 1n) / pageBytes) * pageBytes;
  const end = ((address + BigInt(bytes)) / pageBytes) * pageBytes;
  if (end <= start) return;
  const madvise = koffi.load(null).func("int madvise(void *, size_t, int)");
  madvise(start, Number(end - start), adviceHugePages);
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
