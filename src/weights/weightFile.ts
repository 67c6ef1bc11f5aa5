import { closeSync, constants, fstatSync, openSync, read as readSome, readSync } from "node:fs";
import { promisify } from "node:util";
import { reasonOf, StelliumError } from "../errors.ts";
import { avoidCache, CachedPages, dropCache, readAhead } from "../native/pageCache.ts";
import { pageBytes, roundUp } from "./pages.ts";

const read = promisify(readSome);

/** Bytes of one of several files. Plain data: it crosses threads. */
export interface FileRange {
  /** Index into these files. */
  readonly file: number;
  readonly offset: number;
  readonly bytes: number;
}

/** Most that a direct read takes of memory beyond the bytes that are wanted: whole pages are read. */
export const directMargin = 2 * pageBytes;

/**
 * Most that is read at a time through the system's cache before it is dropped from there: it counts as this process's
 * memory.
 */
const bufferedBytes = 4 * 2 ** 20;

/**
 * A file that weights are read from: directly from the disk into memory that starts on a page border, if system and file
 * system have a way, or through the system's cache. Errors are `FILE_UNREADABLE`. Once it is open it may be deleted.
 */
export class WeightFile implements Disposable {
  readonly path: string;
  readonly #cached: boolean;
  readonly #descriptor: number;
  /** For direct reads; undefined if there are none. */
  #direct: number | undefined;
  #cachedPages: CachedPages | undefined;

  /** @param cached - whether the system's cache may keep what was read through it */
  constructor(path: string, cached: boolean) {
    this.path = path;
    this.#cached = cached;
    try {
      this.#descriptor = openSync(path, "r");
    } catch (error) {
      throw this.#unreadable(error);
    }
    if (!cached) avoidCache(this.#descriptor);
    this.#direct = openDirectly(path);
  }

  /** Whether there are direct reads, as far as is known: some file systems refuse the first one. */
  get isDirect(): boolean {
    return this.#direct !== undefined;
  }

  /** Whether the system's cache has the byte at `offset`. */
  isCached(offset: number): boolean {
    this.#cachedPages ??= new CachedPages(this.#descriptor, fstatSync(this.#descriptor).size);
    return this.#cachedPages.has(offset);
  }

  /** Asks the system to begin reading into its cache. */
  readAhead(offset: number, bytes: number): void {
    readAhead(this.#descriptor, offset, bytes);
  }

  /** Reads through the system's cache until `target` is full. */
  async read(offset: number, target: Uint8Array): Promise<void> {
    try {
      await fill(this.#descriptor, offset, target, target.length);
    } catch (error) {
      throw this.#unreadable(error);
    }
    if (!this.#cached) dropCache(this.#descriptor, offset, target.length);
  }

  /**
   * Reads directly, whole pages.
   *
   * @param room - has `directMargin` more bytes than are wanted
   * @returns where the bytes are in `room`; undefined if there are no direct reads
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

  /**
   * Reads whole pages and blocks the thread meanwhile: directly, or through the system's cache if that may keep them or
   * there are no direct reads.
   *
   * @param offset - a multiple of a page
   * @param wanted - how many bytes there must be; what the last page has beyond them may be missing
   */
  readPages(offset: number, target: Uint8Array, wanted: number): void {
    try {
      for (let done = 0; done < wanted; ) {
        const count = this.#readSome(offset + done, target.subarray(done));
        if (count === 0) throw endsAt(offset + done);
        done += count;
      }
    } catch (error) {
      throw this.#unreadable(error);
    }
  }

  [Symbol.dispose](): void {
    this.#closeDirect();
    this.#cachedPages?.[Symbol.dispose]();
    closeSync(this.#descriptor);
  }

  #readSome(offset: number, target: Uint8Array): number {
    try {
      if (!this.#cached && this.#direct !== undefined) return readSync(this.#direct, target, 0, target.length, offset);
    } catch (error) {
      if (!isRefusal(error)) throw error;
      this.#closeDirect();
    }
    const count = readSync(this.#descriptor, target, 0, Math.min(target.length, bufferedBytes), offset);
    if (!this.#cached) dropCache(this.#descriptor, offset, count);
    return count;
  }

  #closeDirect(): void {
    if (this.#direct !== undefined) closeSync(this.#direct);
    this.#direct = undefined;
  }

  #unreadable(cause: unknown): StelliumError {
    return new StelliumError("FILE_UNREADABLE", { path: this.path, reason: reasonOf(cause) }, { cause });
  }
}

/** Reads until `wanted` bytes of `target` are there; the rest of it may lie beyond the file's end. */
async function fill(descriptor: number, offset: number, target: Uint8Array, wanted: number): Promise<void> {
  for (let done = 0; done < wanted; ) {
    const { bytesRead } = await read(descriptor, target, done, target.length - done, offset + done);
    if (bytesRead === 0) throw endsAt(offset + done);
    done += bytesRead;
  }
}

function endsAt(offset: number): Error {
  return new Error(`it ends at byte ${offset}`);
}

/** Linux's flag for reads that go straight from the disk into memory; other systems have none. */
const directFlag: number | undefined = constants.O_DIRECT;

/** A descriptor for direct reads; undefined if there are none. */
function openDirectly(path: string): number | undefined {
  if (directFlag === undefined) return undefined;
  try {
    return openSync(path, constants.O_RDONLY | directFlag);
  } catch {
    // The file itself could be opened.
    return undefined;
  }
}

/** Whether a file system refuses direct reads: some do so as a file is opened, others at the first one. */
function isRefusal(error: unknown): boolean {
  return ["EINVAL", "ENOTSUP", "EOPNOTSUPP"].includes((error as NodeJS.ErrnoException).code ?? "");
}

/** What is read ahead while threads and libraries are still starting: a fast disk delivers as much meanwhile. */
const firstBytes = 192 * 2 ** 20;

/** Asks the system to begin reading a file of weights. Does nothing if it cannot be read: loading will say why. */
export function beginReading(path: string): void {
  try {
    const descriptor = openSync(path, "r");
    readAhead(descriptor, 0, firstBytes);
    closeSync(descriptor);
  } catch {
    return;
  }
}
