import { existsSync } from "node:fs";
import { type FileHandle, lstat, open, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { StelliumError } from "../errors.ts";
import { tryLock } from "../native/fileLock.ts";
import { fileMode, makeFolder } from "../system/makeFolder.ts";
import { userName } from "../system/user.ts";
import { Unheld } from "../weights/hold.ts";
import { bytesOnDisk, type CacheRoom, entriesOf } from "../weights/kept.ts";
import { headDirectory } from "../weights/localHead.ts";
import { cacheDirectory, partialOwner, sliceDirectory } from "../weights/sliceDirectory.ts";
import { megabytesText, realDisk, type SliceDisk } from "../weights/sliceDisk.ts";
import { isRunning } from "../weights/slicePartials.ts";
import { tuningDirectory } from "./linkPlan.ts";

/** How large a cache may be, and what it takes now. */
export interface CacheUse {
  readonly limitBytes: number;
  readonly usedBytes: number;
}

/** Part of the free disk, the cache's own bytes included, that a cache may take if nothing else was asked for. */
const defaultShare = 0.75;
const lockName = "lock";
const lookMs = 20;
/** Making room takes moments. */
const patienceMs = 60_000;

/** A file or folder that can be fetched or measured again. */
interface Entry {
  readonly path: string;
  /** What it takes of the disk now, and once it is complete. */
  readonly bytes: number;
  readonly claimed: number;
  readonly lastUsed: number;
}

/** An entry that is not in use, and cannot come into use until that is disposed of. */
interface Removable extends Entry {
  readonly unheld: Unheld;
}

/**
 * Keeps a cache directory within a limit: what was used least recently is removed for what is new, but nothing that a
 * process uses or writes, and no model that was fetched by name. All processes that share the directory take turns. Each
 * removal is one change of a directory, so that the cache is sound wherever it is interrupted.
 */
export class CacheLimit implements CacheRoom {
  readonly #given: string | undefined;
  readonly #asked: number | undefined;
  readonly #disk: SliceDisk;

  /**
   * @param directory - the default one if absent
   * @param asked - bytes; three quarters of what is free and what the cache has already, if absent
   */
  constructor(directory: string | undefined, asked: number | undefined, disk: SliceDisk = realDisk) {
    this.#given = directory;
    this.#asked = asked;
    this.#disk = disk;
  }

  /** Reads the limit and the use. Throws `HOME_UNKNOWN`, `FILE_UNREADABLE`. */
  async use(): Promise<CacheUse> {
    const entries = await entriesIn(this.#directory);
    return { limitBytes: await this.#limit(entries), usedBytes: sum(entries, "claimed") };
  }

  async claim<T>(path: string, bytes: number, create: () => Promise<T>): Promise<T> {
    makeFolder(this.#directory);
    await using _ = await this.#turn();
    const entries = await entriesIn(this.#directory);
    const limit = await this.#limit(entries);
    if (bytes > limit) throw this.#full(path, bytes, limit, 0);
    const others = entries.filter((entry) => entry.path !== path);
    const removable = await removableOf(others);
    try {
      const inUse = sum(others, "claimed") - sum(removable, "claimed");
      if (inUse + bytes > limit) throw this.#full(path, bytes, limit, inUse);
      const own = sum(entries, "bytes") - sum(others, "bytes");
      await evict(removable, {
        claimed: sum(others, "claimed") + bytes - limit,
        bytes: bytes - own - (await this.#disk.usable(this.#directory)),
      });
    } finally {
      for (const { unheld } of removable) await unheld[Symbol.asyncDispose]();
    }
    return await create();
  }

  get #directory(): string {
    return this.#given ?? cacheDirectory();
  }

  async #limit(entries: readonly Entry[]): Promise<number> {
    if (this.#asked !== undefined) return this.#asked;
    const free = await this.#disk.usable(existing(this.#directory));
    return Math.floor((free + sum(entries, "bytes")) * defaultShare);
  }

  /** Waits until no other process makes room. */
  async #turn(): Promise<FileHandle> {
    const path = join(this.#directory, lockName);
    const handle = await open(path, "a", fileMode);
    const deadline = performance.now() + patienceMs;
    while (tryLock(handle.fd, "exclusive") === "held") {
      if (performance.now() < deadline) await sleep(lookMs);
      else {
        await handle.close();
        const reason = `another process has had it locked for ${patienceMs / 1000} s`;
        throw new StelliumError("CACHE_UNWRITABLE", { user: userName(), path, variable: "STELLIUM_CACHE_DIR", reason });
      }
    }
    return handle;
  }

  #full(path: string, bytes: number, limit: number, inUse: number): StelliumError {
    const values = { needed: megabytesText(bytes), limit: megabytesText(limit), used: megabytesText(inUse) };
    return new StelliumError("CACHE_FULL", { path, ...values });
  }
}

/** A directory, or the one above it that exists. */
function existing(directory: string): string {
  return existsSync(directory) || dirname(directory) === directory ? directory : existing(dirname(directory));
}

/** Removes entries, in order, until as much is free as was wanted. */
async function evict(entries: readonly Removable[], wanted: Pick<Entry, "bytes" | "claimed">): Promise<void> {
  let { bytes, claimed } = wanted;
  for (const entry of entries) {
    if (bytes <= 0 && claimed <= 0) return;
    await entry.unheld.remove();
    bytes -= entry.bytes;
    claimed -= entry.claimed;
  }
}

/** Entries that no process uses or writes, the least recently used first. */
async function removableOf(entries: readonly Entry[]): Promise<Removable[]> {
  const found: Removable[] = [];
  for (const entry of entries) {
    const unheld = isWritten(entry.path) ? undefined : await Unheld.at(entry.path);
    if (unheld !== undefined) found.push({ ...entry, unheld });
  }
  return found.sort((a, b) => a.lastUsed - b.lastUsed);
}

function isWritten(path: string): boolean {
  const owner = partialOwner(path);
  return owner !== undefined && isRunning(owner);
}

/** A folder that lists what cannot be looked at would otherwise be looked at forever. */
const mostLooks = 100;

/**
 * All that can be fetched or measured again; not what else lies there. Looks again if something is gone meanwhile: a file
 * that another process has finished, and given its name, would not be counted at all.
 */
async function entriesIn(directory: string): Promise<Entry[]> {
  for (let looks = 1; ; looks++) {
    const paths = await pathsIn(directory);
    const entries = (await Promise.all(paths.map(entryAt))).filter((entry) => entry !== undefined);
    if (entries.length === paths.length || looks === mostLooks) return entries;
  }
}

async function pathsIn(directory: string): Promise<string[]> {
  const places = [
    { folder: sliceDirectory(directory), named: /\.(slice|part)$/ },
    { folder: headDirectory(directory), named: /^[0-9a-f]{32}(\..*)?$/ },
    { folder: tuningDirectory(directory), named: /\.json$/ },
  ];
  const found = places.map(async ({ folder, named }) => {
    return (await entriesOf(folder)).filter((name) => named.test(name)).map((name) => join(folder, name));
  });
  return (await Promise.all(found)).flat();
}

/** Undefined if it was removed or renamed meanwhile. A slice's file has its whole length from the start; others may have holes. */
async function entryAt(path: string): Promise<Entry | undefined> {
  const found = await lstat(path).catch(() => undefined);
  if (found === undefined) return undefined;
  const lastUsed = found.mtimeMs;
  if (!found.isDirectory()) return { path, bytes: bytesOnDisk(found), claimed: found.size, lastUsed };
  const files = (await entriesOf(path)).map((name) => stat(join(path, name)).then(bytesOnDisk, () => 0));
  const bytes = (await Promise.all(files)).reduce((total, each) => total + each, 0);
  return { path, bytes, claimed: bytes, lastUsed };
}

function sum(entries: readonly Entry[], what: "bytes" | "claimed"): number {
  return entries.reduce((total, entry) => total + entry[what], 0);
}
