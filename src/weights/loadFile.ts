import { closeSync, fstatSync, openSync, read as readSome } from "node:fs";
import { promisify } from "node:util";
import { reasonOf, StelliumError } from "../errors.ts";
import { CachedPages, dropCache, readAhead } from "../native/pageCache.ts";
import { isRefusal, openDirectly } from "./directIo.ts";
import { pageBytes, roundUp } from "./pages.ts";

const read = promisify(readSome);

/** Most that a direct read takes of memory beyond the bytes that are wanted: whole pages are read. */
export const directMargin = 2 * pageBytes;

/** A file that weights are loaded from, through the system's cache or past it. Errors are `FILE_UNREADABLE`. */
export class LoadFile implements Disposable {
  readonly #path: string;
  readonly #descriptor: number;
  readonly #cachedPages: CachedPages;
  /** For reads past the cache, where system and file system have them. */
  #direct: number | undefined;

  constructor(path: string) {
    this.#path = path;
    try {
      this.#descriptor = openSync(path, "r");
      this.#cachedPages = new CachedPages(this.#descriptor, fstatSync(this.#descriptor).size);
      this.#direct = openDirectly(path);
    } catch (error) {
      throw this.#unreadable(error);
    }
  }

  /** Whether it can be read past the system's cache, as far as is known. */
  get isDirect(): boolean {
    return this.#direct !== undefined;
  }

  /** Whether the system's cache has what lies at `offset`. */
  isCached(offset: number): boolean {
    return this.#cachedPages.has(offset);
  }

  /** Asks the system to begin reading into its cache. */
  readAhead(offset: number, bytes: number): void {
    readAhead(this.#descriptor, offset, bytes);
  }

  /** Drops a part of the file from the system's cache. */
  forget(offset: number, bytes: number): void {
    dropCache(this.#descriptor, offset, bytes);
  }

  /** Reads through the system's cache until `target` is full. */
  async read(offset: number, target: Uint8Array): Promise<void> {
    try {
      await fill(this.#descriptor, offset, target, target.length);
    } catch (error) {
      throw this.#unreadable(error);
    }
  }

  /**
   * Reads past the system's cache, whole pages, into memory that starts on a page's border and has room for `directMargin` more.
   *
   * @returns where the bytes are in `room`; undefined where there are no such reads
   */
  async readDirectly(offset: number, bytes: number, room: Uint8Array): Promise<Uint8Array | undefined> {
    if (this.#direct === undefined) return undefined;
    const lead = offset % pageBytes;
    const pages = room.subarray(0, roundUp(lead + bytes, pageBytes));
    try {
      await fill(this.#direct, offset - lead, pages, lead + bytes);
    } catch (error) {
      if (!isRefusal(error)) throw this.#unreadable(error);
      this.#closeDirect();
      return undefined;
    }
    return room.subarray(lead, lead + bytes);
  }

  [Symbol.dispose](): void {
    this.#closeDirect();
    this.#cachedPages[Symbol.dispose]();
    closeSync(this.#descriptor);
  }

  #closeDirect(): void {
    if (this.#direct !== undefined) closeSync(this.#direct);
    this.#direct = undefined;
  }

  #unreadable(cause: unknown): StelliumError {
    return new StelliumError("FILE_UNREADABLE", { path: this.#path, reason: reasonOf(cause) }, { cause });
  }
}

/** Reads until `wanted` bytes of `target` are there; the rest of it may lie beyond the file's end. */
async function fill(descriptor: number, offset: number, target: Uint8Array, wanted: number): Promise<void> {
  for (let done = 0; done < wanted; ) {
    const { bytesRead } = await read(descriptor, target, done, target.length - done, offset + done);
    if (bytesRead === 0) throw new Error(`it ends at byte ${offset + done}`);
    done += bytesRead;
  }
}

/** What is read ahead while threads and libraries are still starting: a fast disk delivers as much meanwhile. */
const firstBytes = 192 * 2 ** 20;

/** Has the system begin to read a file of weights. Says nothing where it cannot be read: loading will. */
export function beginReading(path: string): void {
  try {
    const descriptor = openSync(path, "r");
    readAhead(descriptor, 0, firstBytes);
    closeSync(descriptor);
  } catch {
    return;
  }
}
