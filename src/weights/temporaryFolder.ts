import { closeSync, lstatSync, mkdtempSync, openSync, readdirSync, renameSync, rmSync, statfsSync } from "node:fs";
import { isAbsolute, join } from "node:path";
import { tryLock } from "../native/fileLock.ts";
import { fileMode } from "../system/makeFolder.ts";

/** `f_type` of statfs(2) for file systems that lie in memory: tmpfs and ramfs. */
const inMemory: readonly number[] = [0x01021994, 0x858458f6];

/** In each folder, a file that its process keeps locked: a killed process leaves a folder whose lock is free. */
const ownerName = ".owner";
/** As `mkdtemp` names what `folderIn` makes. */
const folderName = /^stellium-[A-Za-z0-9]{6}$/;

/**
 * Makes a folder for this process alone on a disk, in the first of `parents` where that works, and removes it when the
 * process ends. Returns undefined if there is none: what lies in a folder in memory would count as this process's memory.
 */
export function temporaryFolder(parents: readonly string[] = temporaryParents()): string | undefined {
  for (const parent of parents) {
    const made = folderIn(parent);
    if (made !== undefined) return made;
  }
  return undefined;
}

/** Removes folders of this user whose processes were killed: those that provably live no more. */
export function removeAbandonedFolders(parents: readonly string[] = temporaryParents()): void {
  for (const parent of parents) {
    for (const name of quietly(() => readdirSync(parent)) ?? []) {
      const folder = join(parent, name);
      if (folderName.test(name) && quietly(() => isAbandoned(folder))) removeQuietly(folder);
    }
  }
}

/** `TMPDIR` if it is absolute, then `/var/tmp`, which systems keep on a disk, then `/tmp`; on Windows `TEMP`. */
export function temporaryParents(environment: NodeJS.ProcessEnv = process.env): string[] {
  const named = process.platform === "win32" ? environment["TEMP"] : environment["TMPDIR"];
  return [named ?? "", "/var/tmp", "/tmp"].filter(isAbsolute);
}

function folderIn(parent: string): string | undefined {
  return quietly(() => {
    if (inMemory.includes(statfsSync(parent).type)) return undefined;
    const folder = mkdtempSync(join(parent, "stellium-"));
    process.once("exit", () => removeQuietly(folder));
    own(folder);
    return folder;
  });
}

/** The lock is taken under another name: no process may find the file and its lock free. */
function own(folder: string): void {
  const unfinished = join(folder, `${ownerName}.part`);
  // Open for as long as the process lives.
  tryLock(openSync(unfinished, "wx", fileMode), "exclusive");
  renameSync(unfinished, join(folder, ownerName));
}

/** Others may have put anything into a folder that all can write: only a folder of this user's own counts. */
function isAbandoned(folder: string): boolean {
  const found = lstatSync(folder);
  if (!found.isDirectory() || found.uid !== process.getuid?.()) return false;
  const owner = openSync(join(folder, ownerName), "r");
  try {
    return tryLock(owner, "exclusive") === "locked";
  } finally {
    closeSync(owner);
  }
}

function removeQuietly(folder: string): void {
  // What cannot be removed is in the system's folder for temporary files.
  quietly(() => rmSync(folder, { recursive: true, force: true }));
}

function quietly<T>(action: () => T): T | undefined {
  try {
    return action();
  } catch {
    return undefined;
  }
}
