import { homedir, userInfo } from "node:os";
import { isAbsolute } from "node:path";
import { StelliumError } from "../errors.ts";
import { userName } from "./user.ts";

/** The variable that names the folder which is looked for in the home directory. */
export type FolderVariable = "STELLIUM_CACHE_DIR" | "HF_HUB_CACHE" | "HF_HOME" | "HF_TOKEN_PATH";

/** Where home directories are read: the environment's `HOME` (on Windows `USERPROFILE`) first, then the user's entry. */
const systemReaders: readonly (() => string)[] = [homedir, () => userInfo().homedir];

/**
 * The user's home directory: an absolute path, which may not exist. Node takes a `HOME` that is empty or relative as it
 * is; here it counts for nothing, and the system's entry for the user is asked instead. Throws `HOME_UNKNOWN` if there
 * is no such entry: service managers and containers start processes as users without one.
 *
 * @param variable - what to set instead, for the message
 */
export function homeDirectory(
  variable: FolderVariable = "STELLIUM_CACHE_DIR",
  readers: readonly (() => string)[] = systemReaders,
): string {
  for (const read of readers) {
    const path = orNothing(read);
    if (path !== undefined && isAbsolute(path)) return path;
  }
  throw new StelliumError("HOME_UNKNOWN", { user: userName(), variable });
}

/** A path that may lie in the home directory; undefined for a user who has none. Throws what else `path` does. */
export function unlessHomeless<T>(path: () => T): T | undefined {
  try {
    return path();
  } catch (error) {
    if (error instanceof StelliumError && error.code === "HOME_UNKNOWN") return undefined;
    throw error;
  }
}

function orNothing(read: () => string): string | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
