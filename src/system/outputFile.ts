import {
  closeSync,
  constants,
  lstatSync,
  openSync,
  readlinkSync,
  renameSync,
  rmSync,
  type Stats,
  writeSync,
} from "node:fs";
import { dirname, resolve } from "node:path";
import { reasonOf, StelliumError } from "../errors.ts";

/** As many as Linux follows. */
const mostLinks = 40;

/**
 * Finds out where a file that the user named is to be written: the path itself, or what a link there leads to. Throws
 * `FILE_UNWRITABLE` if something else is there than a regular file of this user, or a link that another user may have put
 * into a folder that everyone can write.
 */
export function outputPath(path: string): string {
  let at = resolve(path);
  for (let links = 0; links < mostLinks; links++) {
    const found = statOf(path, at);
    if (found === undefined) return at;
    const reason = problemOf(found, at);
    if (reason !== undefined) throw unwritable(path, reason);
    if (!found.isSymbolicLink()) return at;
    at = resolve(dirname(at), readlinkSync(at));
  }
  throw unwritable(path, "too many links lead from it to others");
}

/**
 * Writes a file beside its place and then gives it its name, so that whatever was there stays whole until then. Throws
 * `FILE_UNWRITABLE`.
 *
 * @param path - as `outputPath` returns it
 */
export function replaceFile(path: string, write: (descriptor: number) => void): void {
  const unfinished = unfinishedPath(path);
  try {
    const file = openNew(unfinished, 0o666);
    try {
      write(file);
    } finally {
      closeSync(file);
    }
    renameSync(unfinished, path);
  } catch (error) {
    rmSync(unfinished, { force: true });
    throw unwritable(path, reasonOf(error), error);
  }
}

/** Where a file is written before it gets its name. */
export function unfinishedPath(path: string): string {
  return `${path}.part`;
}

/** Opens a file that this call makes: what is in the way is removed, and no link is followed. */
export function openNew(path: string, mode: number): number {
  rmSync(path, { force: true });
  return openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, mode);
}

/** Writes all bytes at the current end of an open file. */
export function writeAll(file: number, bytes: Uint8Array): void {
  for (let written = 0; written < bytes.length; ) written += writeSync(file, bytes, written);
}

function problemOf(found: Stats, at: string): string | undefined {
  const foreign = process.geteuid !== undefined && found.uid !== process.geteuid();
  if (found.isSymbolicLink()) {
    const planted = foreign && (lstatSync(dirname(at)).mode & 0o002) !== 0;
    return planted ? "it is another user's link in a folder that everyone can write" : undefined;
  }
  if (!found.isFile()) return `it is ${kindOf(found)}, not a file`;
  return foreign ? "it belongs to another user" : undefined;
}

function kindOf(found: Stats): string {
  if (found.isDirectory()) return "a folder";
  if (found.isFIFO()) return "a pipe";
  return found.isSocket() ? "a socket" : "a device";
}

function statOf(path: string, at: string): Stats | undefined {
  try {
    return lstatSync(at, { throwIfNoEntry: false });
  } catch (error) {
    throw unwritable(path, reasonOf(error), error);
  }
}

function unwritable(path: string, reason: string, cause?: unknown): StelliumError {
  return new StelliumError("FILE_UNWRITABLE", { path, reason }, { cause });
}
