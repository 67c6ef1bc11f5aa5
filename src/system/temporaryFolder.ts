import { mkdtempSync, rmSync, statfsSync } from "node:fs";
import { isAbsolute, join } from "node:path";

/** `f_type` of statfs(2) for file systems that lie in memory: tmpfs and ramfs. */
const inMemory: readonly number[] = [0x01021994, 0x858458f6];

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

/** `TMPDIR` if it is absolute, then `/var/tmp`, which systems keep on a disk, then `/tmp`; on Windows `TEMP`. */
export function temporaryParents(environment: NodeJS.ProcessEnv = process.env): string[] {
  const named = process.platform === "win32" ? environment["TEMP"] : environment["TMPDIR"];
  return [named ?? "", "/var/tmp", "/tmp"].filter(isAbsolute);
}

function folderIn(parent: string): string | undefined {
  try {
    if (inMemory.includes(statfsSync(parent).type)) return undefined;
    const folder = mkdtempSync(join(parent, "stellium-"));
    process.once("exit", () => removeQuietly(folder));
    return folder;
  } catch {
    return undefined;
  }
}

function removeQuietly(folder: string): void {
  try {
    rmSync(folder, { recursive: true, force: true });
  } catch {
    // The process ends; what is left is in the system's folder for temporary files.
  }
}
