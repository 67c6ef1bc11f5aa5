import { readdir, rm } from "node:fs/promises";
import { StelliumError } from "../errors.ts";
import { writingTo } from "../system/cacheFolder.ts";

/** Something that this device keeps in its cache directory: a file, or a directory of its own. */
export interface Kept {
  readonly path: string;
  /** What it takes of the disk. */
  readonly bytes: number;
  readonly lastUsed: Date;
  /** Whether a process is writing it. */
  readonly busy: boolean;
  /** Whether it is of no use: unreadable, or half of what it is to be. */
  readonly useless: boolean;
}

/** A cache directory with a limit. */
export interface CacheRoom {
  /**
   * Makes room for a file, in one go with creating it: by removing what was used least recently. Throws `CACHE_FULL`
   * before anything is written or removed, `CACHE_UNWRITABLE`, and what `create` does.
   *
   * @param path - the file, which may be there in part
   * @param bytes - what it takes once it is complete
   * @param create - gives a new file its length, by which it counts from then on
   */
  claim<T>(path: string, bytes: number, create: () => Promise<T>): Promise<T>;
}

/** What to remove. */
export interface PruneOptions {
  /** Everything. */
  readonly all: boolean;
  /** What was last used before. */
  readonly before?: Date | undefined;
}

/** What is of no use, and what `options` name; never what is being written. */
export function prunable<T extends Kept>(kept: readonly T[], { all, before }: PruneOptions): T[] {
  const old = ({ lastUsed }: T) => before !== undefined && lastUsed < before;
  return kept.filter((each) => !each.busy && (all || each.useless || old(each)));
}

/** Removes what is kept. A process that has it loaded is not disturbed. Throws `CACHE_UNWRITABLE`. */
export async function removeKept(kept: readonly Kept[]): Promise<void> {
  for (const { path } of kept) {
    await writingTo(path, "STELLIUM_CACHE_DIR", () => rm(path, { force: true, recursive: true }));
  }
}

/** What a file takes of the disk: one with holes, less than its length. Windows has no count of blocks. */
export function bytesOnDisk({ size, blocks }: { readonly size: number; readonly blocks: number }): number {
  return Math.min(size, blocks === 0 ? size : blocks * 512);
}

/** The entries of a directory; none where there is no such directory. Throws `FILE_UNREADABLE`. */
export async function entriesOf(directory: string): Promise<string[]> {
  return await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT" || error.code === "ENOTDIR") return [];
    throw new StelliumError("FILE_UNREADABLE", { path: directory, reason: error.message }, { cause: error });
  });
}

/** The most recently used first. */
export function byUse<T extends Kept>(kept: readonly (T | undefined)[]): T[] {
  return kept.filter((each) => each !== undefined).sort((a, b) => b.lastUsed.getTime() - a.lastUsed.getTime());
}
