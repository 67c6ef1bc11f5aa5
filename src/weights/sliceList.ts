import { stat } from "node:fs/promises";
import { join } from "node:path";
import { StelliumError } from "../errors.ts";
import { bytesOnDisk, byUse, entriesOf, type Kept } from "./kept.ts";
import { sliceSuffix } from "./sliceDirectory.ts";
import type { SliceHeader } from "./sliceHeader.ts";
import { isBeingWritten } from "./slicePartials.ts";
import { filledBlocks, openSlice } from "./sliceStore.ts";

/** A file in the directory of slices. */
export interface ListedSlice extends Kept {
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
  const entries = await entriesOf(directory);
  const names = entries.filter((name) => Object.values(sliceSuffix).some((suffix) => name.endsWith(suffix)));
  return byUse(await Promise.all(names.map((name) => listed(join(directory, name)))));
}

/** Names of the slices in a directory, those that are not complete included; see `sliceName`. Opens no file. */
export async function sliceNames(directory: string): Promise<string[]> {
  const entries = await entriesOf(directory);
  const names = entries.flatMap((entry) => /^([0-9a-f]{16}-[0-9a-f]{16})\..*(slice|part)$/.exec(entry)?.[1] ?? []);
  return [...new Set(names)];
}

/** Undefined where the file was removed meanwhile. */
async function listed(path: string): Promise<ListedSlice | undefined> {
  const partial = path.endsWith(sliceSuffix.partial);
  const found = await stat(path).catch(() => undefined);
  if (found === undefined) return undefined;
  const busy = partial && (await isBeingWritten(path).catch(() => false));
  const content = await summary(path, partial);
  const useless = "problem" in content || !content.complete;
  return { path, bytes: bytesOnDisk(found), lastUsed: found.mtime, busy, useless, content };
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
