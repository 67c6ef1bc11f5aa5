import { closeSync, constants, openSync, readSync } from "node:fs";
import { reasonOf, StelliumError } from "../../errors.ts";
import { avoidCache, dropCache } from "../../native/pageCache.ts";
import { directFlag, isRefusal } from "../directIo.ts";

/** So much is read at a time through the system's cache, before it is dropped from it: it counts as this process's memory. */
const bufferedBytes = 4 * 2 ** 20;

/**
 * A file that blocks are read from: past the system's cache, which would take as much memory again, where system and
 * file system have a way; otherwise through it, and what was read is dropped from it at once.
 */
export class BlockFile implements Disposable {
  readonly path: string;
  readonly #cached: boolean;
  #direct: boolean;
  #descriptor: number | undefined;

  /** @param cached - whether to read through the system's cache and leave there what was read */
  constructor(path: string, cached: boolean) {
    this.path = path;
    this.#cached = cached;
    this.#direct = !cached && directFlag !== undefined;
  }

  /** Opens it, which `read` does otherwise. Throws `FILE_UNREADABLE`. */
  open(): void {
    try {
      this.#descriptor ??= this.#opened();
    } catch (error) {
      if (!this.#direct || !isRefusal(error)) throw this.#unreadable(error);
    }
  }

  /**
   * Reads whole pages into memory that starts on a page's border. Throws `FILE_UNREADABLE`, also where the file ends
   * before.
   *
   * @param wanted - how many bytes there must be; what the last page has beyond them may be missing
   */
  read(offset: number, target: Uint8Array, wanted: number): void {
    try {
      for (let done = 0; done < wanted; ) {
        const read = this.#some(offset + done, target.subarray(done));
        if (read === 0) throw new Error(`it ends at byte ${offset + done}`);
        done += read;
      }
    } catch (error) {
      throw this.#unreadable(error);
    }
  }

  [Symbol.dispose](): void {
    if (this.#descriptor !== undefined) closeSync(this.#descriptor);
    this.#descriptor = undefined;
  }

  /** Some file systems refuse direct reads as a file is opened, others at the first one. */
  #some(offset: number, target: Uint8Array): number {
    try {
      if (this.#direct) return readSync(this.#open(), target, 0, target.length, offset);
    } catch (error) {
      if (!isRefusal(error)) throw error;
      this[Symbol.dispose]();
      this.#direct = false;
    }
    return this.#buffered(offset, target.subarray(0, bufferedBytes));
  }

  #buffered(offset: number, target: Uint8Array): number {
    const read = readSync(this.#open(), target, 0, target.length, offset);
    if (!this.#cached) dropCache(this.#open(), offset, read);
    return read;
  }

  #open(): number {
    this.#descriptor ??= this.#opened();
    return this.#descriptor;
  }

  #opened(): number {
    const descriptor = openSync(this.path, constants.O_RDONLY | (this.#direct ? directFlag! : 0));
    if (!this.#cached) avoidCache(descriptor);
    return descriptor;
  }

  #unreadable(cause: unknown): StelliumError {
    return new StelliumError("FILE_UNREADABLE", { path: this.path, reason: reasonOf(cause) }, { cause });
  }
}
