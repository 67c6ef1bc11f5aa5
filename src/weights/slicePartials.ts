import { readdir, rename, rm, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { isRunningProcess } from "../system/runningProcess.ts";
import { partialOwner, sliceName, sliceSuffix } from "./sliceDirectory.ts";
import type { SliceHeader } from "./sliceHeader.ts";
import { differenceOf, filledBlocks, openSlice } from "./sliceStore.ts";

/** After so many milliseconds without a write, anyone may go on with a partial slice. */
const abandonedAfter = 10 * 60_000;

/**
 * Whether a process goes on writing a partial slice. One that is taken for dead because it runs on another host, or
 * for abandoned, does no harm: all writers of one slice write the same bytes at the same places.
 */
export async function isBeingWritten(path: string): Promise<boolean> {
  const owner = partialOwner(basename(path));
  if (owner === undefined) return false;
  const { mtimeMs } = await stat(path);
  return Date.now() - mtimeMs <= abandonedAfter && isRunning(owner);
}

/** Whether the process that writes something is still there. */
export function isRunning(owner: NonNullable<ReturnType<typeof partialOwner>>): boolean {
  if (owner.pid === 0) return false;
  // In a container the one before often had the same number.
  if (owner.pid === process.pid) return owner.since >= Date.now() - process.uptime() * 1000;
  return isRunningProcess(owner);
}

interface Candidate {
  readonly path: string;
  readonly complete: ReadonlySet<number>;
}

/**
 * Takes over what there is of a slice, damaged or left by a writer that has stopped, by giving it the name `partial`:
 * of several processes, one succeeds. Removes what is of no more use: files of another build or device, and all others
 * but the most complete. A sound slice stays where it is: another process has just finished it and reads it.
 *
 * @param damaged - blocks known to be damaged
 * @returns the complete blocks, or undefined if there is nothing to go on with
 */
export async function adoptSlice(
  directory: string,
  header: SliceHeader,
  partial: string,
  damaged: readonly number[] = [],
): Promise<ReadonlySet<number> | undefined> {
  const found: Candidate[] = [];
  const all = filledBlocks(header).length;
  for (const path of await leftovers(directory, header)) {
    const complete = await completeBlocks(path, header);
    const sound = path.endsWith(sliceSuffix.complete) && complete?.size === all && damaged.length === 0;
    if (complete === undefined) await rm(path, { force: true });
    else if (!sound) found.push({ path, complete });
  }
  found.sort((a, b) => b.complete.size - a.complete.size);
  const best = await firstRenamed(found, partial);
  for (const { path } of found) if (path !== best?.path) await rm(path, { force: true });
  return best?.complete;
}

async function leftovers(directory: string, header: SliceHeader): Promise<string[]> {
  const name = sliceName(header);
  const paths: string[] = [];
  for (const entry of await readdir(directory)) {
    const path = join(directory, entry);
    const partial = entry.startsWith(`${name}.`) && entry.endsWith(sliceSuffix.partial);
    const free = partial && !(await isBeingWritten(path).catch(() => true));
    if (free || entry === `${name}${sliceSuffix.complete}`) paths.push(path);
  }
  return paths;
}

/** The complete blocks of a file, or undefined where it is not the slice that is wanted. */
async function completeBlocks(path: string, header: SliceHeader): Promise<Set<number> | undefined> {
  const slice = await openSlice(path).catch(() => undefined);
  if (slice === undefined) return undefined;
  await using opened = slice;
  if (differenceOf(opened, header) !== undefined) return undefined;
  const incomplete = new Set(await opened.incomplete());
  return new Set(filledBlocks(header).filter((i) => !incomplete.has(i)));
}

async function firstRenamed(candidates: readonly Candidate[], to: string): Promise<Candidate | undefined> {
  for (const candidate of candidates) {
    const taken = await rename(candidate.path, to).then(
      () => true,
      () => false,
    );
    if (taken) return candidate;
  }
  return undefined;
}
