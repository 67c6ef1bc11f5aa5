import { type ReadText, readSystem } from "./readText.ts";

/** How many files and connections this process may have open; undefined if the system does not say. */
export function openFileLimit(read: ReadText = readSystem): number | undefined {
  const limit = Number(/^Max open files\s+(\d+)/m.exec(read("/proc/self/limits") ?? "")?.[1]);
  return Number.isSafeInteger(limit) ? limit : undefined;
}
