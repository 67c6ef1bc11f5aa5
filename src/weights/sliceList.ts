import { readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { StelliumError } from "../errors.ts";
import { sliceSuffix } from "./sliceDirectory.ts";
import type { SliceHeader } from "./sliceHeader.ts";
import { isBeingWritten } from "./slicePartials.ts";
import { filledBlocks, openSlice } from "./sliceStore.ts";

/** A file in the directory of slices. */
export interface ListedSlice {
  readonly path: string;
  /** What it takes of the disk. */
  readonly bytes: number;
  readonly lastUsed: Date;
  /** Whether a process is writing it. */
  readonly busy: boolean;
  /** What it says of itself, or why it says nothing that can be read. */
  readonly content: SliceContentSummary | { readonly problem: string };
}

/** What a slice says of itself. */
export interface SliceContentSummary extends Pick<SliceHeader, "model" | "share" | "device"> {
  readonly blocks: number;
  readonly completeBlocks: number;
  /** Whether all blocks are there, and the file has its final name. */
  readonly complete: boolean;
}

/** The slices in a directory, the most recently used first; none where there is no such directory. */
export async function listSlices(directory: string): Promise<ListedSlice[]> {
  const entries = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw new StelliumError("FILE_UNREADABLE", { path: directory, reason: error.message }, { cause: error });
  });
  const names = entries.filter((name) => Object.values(sliceSuffix).some((suffix) => name.endsWith(suffix)));
  const slices = await Promise.all(names.map((name) => listed(join(directory, name))));
  return slices.filter((slice) => slice !== undefined).sort((a, b) => b.lastUsed.getTime() - a.lastUsed.getTime());
}

/** Which slices to remove. */
export interface PruneOptions {
  /** All of them. */
  readonly all: boolean;
  /** Those that were last used before. */
  readonly before?: Date | undefined;
}

/** Slices that are of no use (unreadable, or incomplete), and those that `options` names; never one being written. */
export function prunable(slices: readonly ListedSlice[], { all, before }: PruneOptions): ListedSlice[] {
  const useless = ({ content }: ListedSlice) => "problem" in content || !content.complete;
  const old = ({ lastUsed }: ListedSlice) => before !== undefined && lastUsed < before;
  return slices.filter((slice) => !slice.busy && (all || useless(slice) || old(slice)));
}

/** Removes slices. A process that has one loaded goes on undisturbed. Throws `FILE_UNREADABLE`. */
export async function removeSlices(slices: readonly ListedSlice[]): Promise<void> {
  for (const { path } of slices) {
    await rm(path, { force: true }).catch((error: Error) => {
      throw new StelliumError("FILE_UNREADABLE", { path, reason: error.message }, { cause: error });
    });
  }
}

/** Undefined where the file was removed meanwhile. */
async function listed(path: string): Promise<ListedSlice | undefined> {
  const partial = path.endsWith(sliceSuffix.partial);
  const found = await stat(path).catch(() => undefined);
  if (found === undefined) return undefined;
  const busy = partial && (await isBeingWritten(path).catch(() => false));
  // A partial slice is sparse: its length is not what it takes. Windows has no count of blocks.
  const bytes = Math.min(found.size, found.blocks === 0 ? found.size : found.blocks * 512);
  return { path, bytes, lastUsed: found.mtime, busy, content: await summary(path, partial) };
}

async function summary(path: string, partial: boolean): Promise<ListedSlice["content"]> {
  try {
    await using slice = await openSlice(path);
    const { model, share, device } = slice.header;
    const blocks = filledBlocks(slice.header).length;
    const completeBlocks = blocks - (await slice.incomplete()).length;
    return { model, share, device, blocks, completeBlocks, complete: !partial && completeBlocks === blocks };
  } catch (error) {
    if (!(error instanceof StelliumError)) throw error;
    return { problem: String(error.values["reason"]) };
  }
}
