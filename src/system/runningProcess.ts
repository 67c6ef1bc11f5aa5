import { readFileSync } from "node:fs";

/** A process that may have ended since. */
export interface ProcessMark {
  readonly pid: number;
  /** Distinguishes it from a later process with the same number; absent if the system has no such thing. */
  readonly birth?: string | undefined;
}

/** True while that very process runs. */
export function isRunningProcess({ pid, birth }: ProcessMark): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EPERM") return false;
  }
  return birth === undefined || birth === birthOf(pid);
}

/** When a process was started, in the system's own count; undefined if that cannot be read. */
export function birthOf(pid: number): string | undefined {
  try {
    // The name, in parentheses, may have spaces. The 22nd field is the time.
    return readFileSync(`/proc/${pid}/stat`, "utf8")
      .replace(/^.*\) /s, "")
      .split(" ")[19];
  } catch {
    return undefined;
  }
}
