import { chmodSync, type Dirent, lstatSync, mkdirSync, readdirSync, statSync } from "node:fs";
import { dirname, join } from "node:path";

/** Mode of folders that Stellium makes: only their owner can look into them. */
export const folderMode = 0o700;
/** Mode of files that Stellium makes without being told where: only their owner can read them. */
export const fileMode = 0o600;

/**
 * Makes a folder and those above it, unless they exist, for this user alone. Node's own recursive mkdir never returns if
 * a file system answers `ENOENT` to every mkdir, as `/proc` does. Throws the system's error for the folder it refuses.
 */
export function makeFolder(path: string): void {
  if (isFolder(path)) return;
  try {
    mkdirSync(path, { mode: folderMode });
  } catch (error) {
    const parent = dirname(path);
    if (isFolder(path)) return;
    if ((error as NodeJS.ErrnoException).code !== "ENOENT" || isFolder(parent) || parent === path) throw error;
    makeFolder(parent);
    makeFolder(path);
  }
}

/**
 * Closes a folder to others, with all files and folders in it. Leaves a folder alone that does not exist, belongs to
 * another user, or is closed already: others cannot reach what lies in a closed folder.
 */
export function closeTree(path: string): void {
  if (!closeFolder(path)) return;
  try {
    for (const entry of readdirSync(path, { withFileTypes: true })) closeEntry(join(path, entry.name), entry);
  } catch {
    // What is left cannot be reached any more.
  }
}

/** Closes a folder to others, but not what is in it. Returns whether it was open, and is this user's to close. */
export function closeFolder(path: string): boolean {
  if (process.platform === "win32") return false;
  try {
    const status = lstatSync(path);
    if (!status.isDirectory() || (status.mode & 0o077) === 0 || status.uid !== process.getuid?.()) return false;
    chmodSync(path, folderMode);
    return true;
  } catch {
    return false;
  }
}

/** Links stay as they are: what they point to may be meant for others. */
function closeEntry(path: string, entry: Dirent): void {
  if (entry.isDirectory()) closeTree(path);
  else if (entry.isFile()) chmodSync(path, fileMode);
}

function isFolder(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
  } catch {
    return false;
  }
}
