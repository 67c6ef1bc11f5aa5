import { reasonOf, StelliumError } from "../errors.ts";
import type { FolderVariable } from "./homeDirectory.ts";
import { userName } from "./user.ts";

/** True for refusals of the operating system. Such errors have a number; mistakes in calling Node have none. */
export function isRefusedBySystem(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && typeof (error as NodeJS.ErrnoException).errno === "number";
}

/** True if the disk, or the user's quota of it, is full. */
export function isFull(error: unknown): boolean {
  const { code } = (error ?? {}) as NodeJS.ErrnoException;
  return code === "ENOSPC" || code === "EDQUOT";
}

/** Runs what writes to a folder that `variable` names. Throws `CACHE_UNWRITABLE`, whatever reason the system gives. */
export async function writingTo<T>(path: string, variable: FolderVariable, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    throw isRefusedBySystem(error) ? cacheUnwritable(path, variable, error) : error;
  }
}

/** The error of a folder that cannot be written. The path that the system refused is named if it says which it is. */
export function cacheUnwritable(path: string, variable: FolderVariable, cause: NodeJS.ErrnoException): StelliumError {
  const values = { user: userName(), path: cause.path ?? path, variable, reason: reasonOf(cause) };
  return new StelliumError("CACHE_UNWRITABLE", values, { cause });
}

/** True if nothing can be kept: there is no folder for it, it cannot be written, or it or its disk is full. */
export function isWithoutCache(error: unknown): error is StelliumError {
  const codes: readonly string[] = ["HOME_UNKNOWN", "CACHE_UNWRITABLE", "CACHE_FULL", "DISK_FULL"];
  return error instanceof StelliumError && codes.includes(error.code);
}
