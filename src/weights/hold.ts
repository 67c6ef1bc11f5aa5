import { type FileHandle, open, rename, rm, stat } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { reasonOf, StelliumError } from "../errors.ts";
import { tryLock } from "../native/fileLock.ts";
import { partialPath } from "./sliceDirectory.ts";

const lookMs = 10;
/** Whoever makes room decides in moments. */
const patienceMs = 30_000;

/** Keeps a file or folder of the cache from being removed to make room, by any process, until it is disposed of. */
export class Hold implements AsyncDisposable {
  readonly path: string;
  readonly #handle: FileHandle | undefined;

  /**
   * Waits while a process decides whether to remove it. Holds the file that has the name in the end: of two processes that
   * write the same slice, the second gives it another file. Throws `FILE_UNREADABLE` if it is not there, or is removed.
   */
  static async on(path: string): Promise<Hold> {
    const deadline = performance.now() + patienceMs;
    do {
      const handle = await opened(path);
      while (handle !== undefined && tryLock(handle.fd, "shared") === "held" && performance.now() < deadline) {
        await sleep(lookMs);
      }
      if (handle === undefined || (await isAt(path, handle))) return new Hold(path, handle);
      await handle.close();
    } while (performance.now() < deadline);
    throw gone(path, "other processes replace it all the time");
  }

  private constructor(path: string, handle: FileHandle | undefined) {
    this.path = path;
    this.#handle = handle;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle?.close();
  }
}

/** A file or folder that no process holds, and none can until it is disposed of. */
export class Unheld implements AsyncDisposable {
  readonly #path: string;
  readonly #handle: FileHandle | undefined;

  /** Returns undefined if a process holds it, or it is not there. */
  static async at(path: string): Promise<Unheld | undefined> {
    const handle = await opened(path).catch(() => null);
    if (handle === null) return undefined;
    const free = handle === undefined || (tryLock(handle.fd, "exclusive") !== "held" && (await isAt(path, handle)));
    if (free) return new Unheld(path, handle);
    await handle.close();
    return undefined;
  }

  private constructor(path: string, handle: FileHandle | undefined) {
    this.#path = path;
    this.#handle = handle;
  }

  /** Removes it. Of a folder, nothing counts as complete from the first change on. */
  async remove(): Promise<void> {
    const path = this.#path;
    const found = await stat(path).catch(() => undefined);
    if (!found?.isDirectory()) return await rm(path, { force: true });
    const left = partialPath(dirname(path), basename(path).replace(/\..*/s, ""), 0);
    await rename(path, left);
    await rm(left, { force: true, recursive: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle?.close();
  }
}

/** Undefined if the system opens no folders (Windows). */
async function opened(path: string): Promise<FileHandle | undefined> {
  return await open(path, "r").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") throw gone(path, reasonOf(error));
    return undefined;
  });
}

/** True if a path still names the file that was opened. */
async function isAt(path: string, handle: FileHandle): Promise<boolean> {
  const [named, opened] = await Promise.all([stat(path).catch(() => undefined), handle.stat()]);
  return named?.ino === opened.ino && named.dev === opened.dev;
}

function gone(path: string, reason: string): StelliumError {
  return new StelliumError("FILE_UNREADABLE", { path, reason });
}
