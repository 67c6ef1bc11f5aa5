import { randomInt } from "node:crypto";
import { type FileHandle, open, readdir, rename, rm, stat, utimes } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { StelliumError } from "../errors.ts";
import { fileMode } from "../system/makeFolder.ts";
import { partialOwner, partialPath } from "../weights/sliceDirectory.ts";
import { isBeingWritten } from "../weights/slicePartials.ts";
import { syncDirectoryOf } from "../weights/sliceStore.ts";

/** How often to look whether another process has brought a file. */
const lookMs = 200;
/** How often to show that this process lives, however slowly bytes come. */
const showMs = 60_000;

/**
 * A file on its way to `target`, which this process alone brings there. Its name says which process that is. When that
 * ends before, another one goes on with what there is.
 */
export class PartialFile implements AsyncDisposable {
  readonly target: string;
  readonly handle: FileHandle;
  readonly #shown: NodeJS.Timeout;
  #path: string | undefined;

  /**
   * Takes the file over from whoever left it, or begins it; `target`'s directory has to be there. While another process
   * brings it, tells `onWait` how many bytes that has, and waits. Resolves to undefined when the target is there, as
   * `isThere` says. Throws `ABORTED`.
   */
  static async claim(
    target: string,
    isThere: () => Promise<boolean>,
    onWait: (bytes: number) => void,
    signal?: AbortSignal,
  ): Promise<PartialFile | undefined> {
    for (;;) {
      if (signal?.aborted) throw aborted(signal);
      if (await isThere()) return undefined;
      const { busy, left } = await partialsOf(target);
      if (busy !== undefined) {
        onWait(busy.bytes);
        await sleep(lookMs, undefined, { signal }).catch(() => {});
        continue;
      }
      const path = partialPath(dirname(target), basename(target));
      const claimed = await obtain(path, left);
      if (!claimed) continue;
      const file = new PartialFile(target, path, await open(path, "r+"));
      const rival = (await partialsOf(target, path)).busy !== undefined;
      // Another may have completed it between the first look and the claim.
      if (await isThere()) return await file.#discard();
      if (!rival) return file;
      // Two came at once, and both may have seen each other: they come again at different times.
      await file[Symbol.asyncDispose]();
      await sleep(randomInt(10, 200));
    }
  }

  private constructor(target: string, path: string, handle: FileHandle) {
    this.target = target;
    this.handle = handle;
    this.#path = path;
    this.#shown = setInterval(() => handle.utimes(new Date(), new Date()).catch(() => {}), showMs);
    this.#shown.unref();
  }

  /**
   * Gives the file its name: it is complete, and all of it on the disk. False where this process stood still for so long
   * that another one went on with the file.
   */
  async complete(): Promise<boolean> {
    await this.handle.sync();
    const path = await this.#close();
    try {
      await rename(path!, this.target);
    } catch (error) {
      return ignoreMissing(error as NodeJS.ErrnoException) ?? false;
    }
    await syncDirectoryOf(this.target);
    await removeLeft(this.target);
    return true;
  }

  async #discard(): Promise<undefined> {
    await rm((await this.#close())!, { force: true });
    await removeLeft(this.target);
  }

  /** Leaves what there is, if anything, to whoever wants to go on with it. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#path === undefined) return;
    const { size } = await this.handle.stat();
    const path = await this.#close();
    if (size === 0) await rm(path!, { force: true });
    else await rename(path!, partialPath(dirname(path!), basename(this.target), 0)).catch(ignoreMissing);
  }

  async #close(): Promise<string | undefined> {
    const path = this.#path;
    this.#path = undefined;
    clearInterval(this.#shown);
    await this.handle.close();
    return path;
  }
}

/** Bytes that have come of a file that is not there yet. */
export async function partialBytes(target: string): Promise<number> {
  const { busy, left } = await partialsOf(target);
  return busy?.bytes ?? left[0]?.bytes ?? 0;
}

/** Bytes of what was left of files in a directory, and is not being brought now. */
export async function leftoverBytes(directory: string): Promise<number> {
  return sumOf((await partialsIn(directory)).filter(({ busy }) => !busy));
}

/** Removes what was left of files in a directory, and is not being brought now. Returns how many bytes it had. */
export async function removePartials(directory: string): Promise<number> {
  const left = (await partialsIn(directory)).filter(({ busy }) => !busy);
  for (const { path } of left) await rm(path, { force: true });
  return sumOf(left);
}

function sumOf(partials: readonly Partial[]): number {
  return partials.reduce((sum, { bytes }) => sum + bytes, 0);
}

/** Removes partial downloads of a file that is complete. */
async function removeLeft(target: string): Promise<void> {
  for (const { path } of (await partialsOf(target)).left) await rm(path, { force: true });
}

interface Partial {
  readonly path: string;
  readonly bytes: number;
  /** Whether a process is writing it. */
  readonly busy: boolean;
}

/** The partial file that another process is writing, and those that were left, the longest first; without `own`. */
async function partialsOf(target: string, own?: string): Promise<{ busy: Partial | undefined; left: Partial[] }> {
  const all = await partialsIn(dirname(target), basename(target));
  const others = all.filter(({ path }) => path !== own).sort((a, b) => b.bytes - a.bytes);
  return { busy: others.find(({ busy }) => busy), left: others.filter(({ busy }) => !busy) };
}

/** Those in a directory, or those that are to become the file `name` there. */
async function partialsIn(directory: string, name?: string): Promise<Partial[]> {
  const entries = await readdir(directory).catch(() => []);
  const meant = entries.filter((entry) => partialOwner(entry) && (name === undefined || finalName(entry) === name));
  const partials = await Promise.all(meant.map((entry) => partialAt(join(directory, entry))));
  const there = partials.filter((partial) => partial !== undefined);
  // One that was renamed meanwhile has another name now.
  return there.length < partials.length ? partialsIn(directory, name) : there;
}

/** Undefined where it was renamed meanwhile. */
async function partialAt(path: string): Promise<Partial | undefined> {
  try {
    return { path, busy: await isBeingWritten(path), bytes: (await stat(path)).size };
  } catch (error) {
    return ignoreMissing(error as NodeJS.ErrnoException);
  }
}

/** Makes one of the files that were left, or else an empty one, this process's; false where others were faster. */
async function obtain(path: string, [longest, ...others]: readonly Partial[]): Promise<boolean> {
  if (longest === undefined) {
    await (await open(path, "wx", fileMode)).close();
    return true;
  }
  try {
    // By an old time it would count as abandoned.
    await utimes(longest.path, new Date(), new Date());
    await rename(longest.path, path);
  } catch (error) {
    return ignoreMissing(error as NodeJS.ErrnoException) ?? false;
  }
  for (const other of others) await rm(other.path, { force: true });
  return true;
}

/** Of the file that a partial one is to become. */
function finalName(entry: string): string {
  return entry.replace(/\.[^.]+\.part$/, "");
}

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code === "ENOENT") return undefined;
  throw error;
}

function aborted({ reason }: AbortSignal): StelliumError {
  return new StelliumError("ABORTED", { reason: reason instanceof Error ? reason.message : String(reason) });
}
