import { type FileHandle, statfs } from "node:fs/promises";
import { StelliumError } from "../errors.ts";
import { cacheUnwritable, isFull, isRefusedBySystem } from "../system/cacheFolder.ts";

/** What a slice writer asks of the disk: tests put a full one in its place. */
export interface SliceDisk {
  /** Bytes that may be used of the disk a directory is on, with a margin left over. */
  usable(directory: string): Promise<number>;
  /** Writes all of `bytes`. */
  write(file: FileHandle, bytes: Uint8Array, offset: number): Promise<void>;
}

/** What is left free, the smaller of the two: the system and other programs need some, too. */
const margin = { bytes: 1e9, fraction: 0.05 };

/** The disk there is. */
export const realDisk: SliceDisk = {
  async usable(directory) {
    const { bavail, blocks, bsize } = await statfs(directory);
    return Math.max(0, bavail * bsize - Math.min(margin.bytes, blocks * bsize * margin.fraction));
  },
  async write(file, bytes, offset) {
    for (let done = 0; done < bytes.length; ) {
      done += (await file.write(bytes, done, bytes.length - done, offset + done)).bytesWritten;
    }
  },
};

/** Throws `DISK_FULL` where `needed` bytes more than may be used are wanted. */
export async function checkRoom(disk: SliceDisk, directory: string, path: string, needed: number): Promise<void> {
  const usable = await disk.usable(directory);
  if (needed > usable) throw diskFull(path, needed, usable);
}

/** Runs what touches a slice's file. Throws `DISK_FULL`, or `CACHE_UNWRITABLE` for all else the system refuses. */
export async function onDisk<T>(path: string, needed: number, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    if (isFull(error)) throw diskFull(path, needed, 0);
    throw isRefusedBySystem(error) ? cacheUnwritable(path, "STELLIUM_CACHE_DIR", error) : error;
  }
}

/** Bytes for an error's text, such as `1230 MB`. */
export function megabytesText(bytes: number): string {
  return `${Number((bytes / 1e6).toPrecision(3))} MB`;
}

function diskFull(path: string, needed: number, available: number): StelliumError {
  return new StelliumError("DISK_FULL", { path, needed: megabytesText(needed), available: megabytesText(available) });
}
