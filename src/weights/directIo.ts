import { constants, openSync } from "node:fs";

/** Linux's flag for reads that go straight from the disk into memory; other systems have none. */
export const directFlag: number | undefined = constants.O_DIRECT;

/** Whether a file system refuses direct reads: some do so as a file is opened, others at the first one. */
export function isRefusal(error: unknown): boolean {
  return ["EINVAL", "ENOTSUP", "EOPNOTSUPP"].includes((error as NodeJS.ErrnoException).code ?? "");
}

/** A descriptor for direct reads; undefined where there are none. Throws where the file cannot be opened at all. */
export function openDirectly(path: string): number | undefined {
  if (directFlag === undefined) return undefined;
  try {
    return openSync(path, constants.O_RDONLY | directFlag);
  } catch (error) {
    if (isRefusal(error)) return undefined;
    throw error;
  }
}
