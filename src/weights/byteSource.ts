import { type FileHandle, open } from "node:fs/promises";
import { reasonOf, StelliumError } from "../errors.ts";
import { dropCache } from "../native/pageCache.ts";

/** Random access to the bytes of one model file, wherever it lies. */
export interface ByteSource {
  /** What to call it in messages: a path or an URL. */
  readonly name: string;
  /** Length in bytes. */
  readonly size: number;
  /** Reads exactly `length` bytes at `offset`; rejects when the source ends before. */
  read(offset: number, length: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

/**
 * Opens a local file as a `ByteSource`. Throws `FILE_UNREADABLE`.
 *
 * @param cached - whether the system's cache is to keep what was read
 */
export async function openFile(path: string, cached = true): Promise<ByteSource> {
  const handle = await orUnreadable(path, () => open(path, "r"));
  try {
    return new FileSource(path, await orUnreadable(path, () => regularSize(handle)), handle, cached);
  } catch (error) {
    await handle.close();
    throw error;
  }
}

class FileSource implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly #handle: FileHandle;
  readonly #cached: boolean;

  constructor(name: string, size: number, handle: FileHandle, cached: boolean) {
    this.#cached = cached;
    this.name = name;
    this.size = size;
    this.#handle = handle;
  }

  read(offset: number, length: number): Promise<Uint8Array> {
    return orUnreadable(this.name, () => this.#read(offset, length));
  }

  async #read(offset: number, length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    for (let done = 0; done < length; ) {
      const { bytesRead } = await this.#handle.read(bytes, done, length - done, offset + done);
      if (bytesRead === 0) throw new Error(`it ends at byte ${offset + done}`);
      done += bytesRead;
    }
    if (!this.#cached) dropCache(this.#handle.fd, offset, length);
    return bytes;
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}

async function regularSize(handle: FileHandle): Promise<number> {
  const stat = await handle.stat();
  if (!stat.isFile()) throw new Error("it is not a file");
  return stat.size;
}

async function orUnreadable<T>(path: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    throw new StelliumError("FILE_UNREADABLE", { path, reason: reasonOf(error) }, { cause: error });
  }
}
