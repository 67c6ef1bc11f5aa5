import koffi, { type LibraryHandle } from "koffi";
import type { Pointer } from "./ggml.ts";
import { nativeLibraries } from "./libraries.ts";

type KoffiFunction = ReturnType<LibraryHandle["func"]>;

/** Native memory that several threads may see at the same address. Its owner frees it. */
export interface NativeMemory extends Disposable {
  readonly address: Pointer;
  readonly bytes: number;
  /** The same memory, as JavaScript sees it. Not to be used after disposal. */
  readonly view: Uint8Array;
}

/** Allocates `bytes` of memory, aligned as ggml wants it (64 bytes). Its content is undefined. */
export function allocateNative(bytes: number): NativeMemory {
  const { base } = nativeLibraries();
  const address = base.func("void *ggml_aligned_malloc(size_t)")(bytes) as Pointer;
  const free = base.func("void ggml_aligned_free(void *, size_t)");
  return { address, bytes, view: viewNative(address, bytes), [Symbol.dispose]: () => free(address, bytes) };
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

/** POSIX's `POSIX_FADV_WILLNEED`. */
const adviceWillNeed = 3;
/** Linux reads no more than a device's read-ahead size for one piece of advice: 128 KiB, if nobody changed it. */
const adviceStep = 128 * 1024;

/**
 * Has the system begin to read a part of a file, so that it is there when it is asked for. A no-op where there is no such call.
 *
 * @param descriptor - of an open file
 */
export function readAhead(descriptor: number, offset: number, bytes: number): void {
  if (process.platform !== "linux") return;
  fadvise ??= koffi.load(null).func("int posix_fadvise(int, int64_t, int64_t, int)");
  for (let at = offset; at < offset + bytes; at += adviceStep) fadvise(descriptor, at, adviceStep, adviceWillNeed);
}

let fadvise: KoffiFunction | undefined;
