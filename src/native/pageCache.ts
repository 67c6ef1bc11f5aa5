import type { Pointer } from "./ggml.ts";
import koffi from "./koffi.ts";

/** What the system keeps in memory of files that were read, and how to have a say in that. */

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
  for (let at = offset; at < offset + bytes; at += adviceStep)
    calls().fadvise(descriptor, at, adviceStep, adviceWillNeed);
}

/** POSIX's `POSIX_FADV_DONTNEED`. */
const adviceDontNeed = 4;

/**
 * Has the system forget what it keeps in memory of a part of a file; bytes that are not on the disk yet stay. A no-op
 * where there is no such call.
 *
 * @param bytes - 0 is all up to the file's end
 */
export function dropCache(descriptor: number, offset: number, bytes: number): void {
  if (process.platform !== "linux") return;
  calls().fadvise(descriptor, offset, bytes, adviceDontNeed);
}

/** macOS' `F_NOCACHE`. */
const commandNoCache = 48;

/** Has reads of an open file pass by the system's cache, on macOS, which has no flag for it. */
export function avoidCache(descriptor: number): void {
  if (process.platform !== "darwin") return;
  koffi.load(null).func("int fcntl(int, int, ...)")(descriptor, commandNoCache, "int", 1);
}

/** `PROT_READ` and `MAP_SHARED`, the same on all systems that have them. */
const mapping = { read: 1, shared: 1 };
/** What mmap(2) returns where it cannot. */
const mapFailed = 2n ** 64n - 1n;

/** Tells which parts of an open file the system's cache has. */
export class CachedPages implements Disposable {
  readonly #bytes: number;
  readonly #address: Pointer;
  readonly #answer = new Uint8Array(1);

  /** @param descriptor - of an open file, which may be closed meanwhile */
  constructor(descriptor: number, bytes: number) {
    this.#bytes = bytes;
    this.#address =
      process.platform === "linux" ? calls().mmap(null, bytes, mapping.read, mapping.shared, descriptor, 0) : mapFailed;
  }

  /**
   * Whether the page at `offset`, a multiple of its size, is there. Where the system does not say, it is not; where this user may
   * not write to the file, Linux says that it is.
   */
  has(offset: number): boolean {
    if (this.#address === mapFailed) return false;
    return calls().mincore(this.#address + BigInt(offset), 1, this.#answer) === 0 && (this.#answer[0]! & 1) === 1;
  }

  [Symbol.dispose](): void {
    if (this.#address !== mapFailed) calls().munmap(this.#address, this.#bytes);
  }
}

let bound: ReturnType<typeof bind> | undefined;

function calls() {
  bound ??= bind();
  return bound;
}

function bind() {
  const libc = koffi.load(null);
  return {
    fadvise: libc.func("int posix_fadvise(int, int64_t, int64_t, int)"),
    mmap: libc.func("void *mmap(void *, size_t, int, int, int, int64_t)"),
    mincore: libc.func("int mincore(void *, size_t, _Out_ uint8_t *)"),
    munmap: libc.func("int munmap(void *, size_t)"),
  };
}
