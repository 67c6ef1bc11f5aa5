import type { Pointer } from "./ggml.ts";
import koffi from "./koffi.ts";
import { pageSize, pageStart } from "./pageSize.ts";

/** The system's cache of files that were read, and how to influence it. */

/** POSIX's `POSIX_FADV_WILLNEED`. */
const adviceWillNeed = 3;
/** Linux reads no more than a device's read-ahead size for one piece of advice: 128 KiB, unless it was changed. */
const adviceStep = 128 * 1024;

/**
 * Asks the system to begin reading a part of a file, so that it is there when it is needed. A no-op if there is no such call.
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
 * Makes the system forget what it keeps in memory of a part of a file, and of the pages at its ends; bytes that are not
 * on the disk yet stay. A no-op if there is no such call.
 *
 * @param bytes - 0 is all up to the file's end
 */
export function dropCache(descriptor: number, offset: number, bytes: number): void {
  if (process.platform !== "linux") return;
  const pages = touchedPages(offset, bytes);
  calls().fadvise(descriptor, pages.offset, pages.bytes, adviceDontNeed);
}

/**
 * The pages that a part of a file touches. Linux drops whole pages only: of parts read one after the other, whose ends
 * are no ends of pages, it would keep a page each.
 */
export function touchedPages(offset: number, bytes: number, page = pageSize()): { offset: number; bytes: number } {
  const start = offset - (offset % page);
  return { offset: start, bytes: bytes === 0 ? 0 : Math.ceil((offset + bytes - start) / page) * page };
}

/** macOS' `F_NOCACHE`. */
const commandNoCache = 48;

/** Makes reads of an open file bypass the system's cache, on macOS, which has no flag for it. */
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
   * Whether the page with the byte at `offset` is there. If the system does not say, it is not; if this user may not write
   * to the file, Linux says that it is.
   */
  has(offset: number): boolean {
    if (this.#address === mapFailed) return false;
    const page = pageStart(this.#address + BigInt(offset), pageSize());
    return calls().mincore(page, 1, this.#answer) === 0 && (this.#answer[0]! & 1) === 1;
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
