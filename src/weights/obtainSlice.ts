import type { Device, Ggml } from "../native/ggml.ts";
import { Hold } from "./hold.ts";
import type { CacheRoom } from "./kept.ts";
import { sliceBytes } from "./slice.ts";
import { slicePath } from "./sliceDirectory.ts";
import type { SliceDisk } from "./sliceDisk.ts";
import type { SliceBlock, SliceHeader } from "./sliceHeader.ts";
import { checkSlice } from "./sliceStore.ts";
import { SliceWriter } from "./sliceWriter.ts";

/** Where the plain bytes of a slice's blocks come from. */
export interface BlockSource {
  /** Told, before the first of them, which blocks will be asked for, in their order. */
  begin(blocks: readonly number[]): Promise<void>;
  /** The plain bytes of all tensors of a block, one behind the other. */
  block(index: number): AsyncIterable<Uint8Array>;
}

/** A slice that is to be on this device's disk. */
export interface SliceWish {
  readonly ggml: Ggml;
  readonly device: Device;
  readonly directory: string;
  /** What it is to be, as `layOutSlice` makes it. */
  readonly header: SliceHeader;
  readonly source: BlockSource;
  /** Told the plain bytes that came and all that have to come; not at all where the slice is there. */
  readonly onProgress?: ((bytes: number, total: number) => void) | undefined;
  readonly disk?: SliceDisk;
  /** Makes room in the cache; there is no limit if absent. */
  readonly room?: CacheRoom | undefined;
  /** Whether it could not be loaded: its checksums are compared if the journal finds nothing wrong. */
  readonly suspect?: boolean | undefined;
}

/**
 * A complete slice: the one on the disk, or that completed by what is missing of it. It stays until it is disposed of.
 * Throws `CACHE_FULL` or `DISK_FULL` before anything is written, `CACHE_UNWRITABLE`, `SLICE_INVALID`, and what the source
 * does.
 */
export async function obtainSlice({ source, onProgress, suspect = false, ...wish }: SliceWish): Promise<Hold> {
  const found = await soundSlice(wish, suspect);
  if (found instanceof Hold) return found;
  await using writer = await SliceWriter.open({ ...wish, damaged: found.damaged });
  // Another process may have finished it since: two devices without a share have the same slice.
  const finished = await soundSlice(wish, false);
  if (finished instanceof Hold) return finished;
  const blocks = writer.missing;
  const total = blocks.reduce((sum, index) => sum + plainBlockBytes(wish.header.blocks[index]!), 0);
  let received = 0;
  const counted = async function* (bytes: AsyncIterable<Uint8Array>) {
    for await (const piece of bytes) {
      received += piece.length;
      onProgress?.(received, total);
      yield piece;
    }
  };
  if (blocks.length > 0) await source.begin(blocks);
  for (const index of blocks) await writer.writeBlock(index, counted(source.block(index)));
  return await Hold.on(await writer.finish());
}

/** The slice, if nothing is missing of it; otherwise the blocks that are damaged. */
async function soundSlice(
  { directory, header }: Pick<SliceWish, "directory" | "header">,
  suspect: boolean,
): Promise<Hold | { readonly damaged: readonly number[] }> {
  const hold = await Hold.on(slicePath(directory, header)).catch(() => undefined);
  if (hold === undefined) return { damaged: [] };
  const { reason } = await checkSlice(directory, header);
  const { missing: damaged } =
    suspect && reason === undefined ? await checkSlice(directory, header, { verify: true }) : none;
  if (reason === undefined && damaged.length === 0) return hold;
  await hold[Symbol.asyncDispose]();
  return { damaged };
}

const none = { missing: [] } as const;

/** A layout may take more or less room than that. */
function plainBlockBytes({ tensors }: SliceBlock): number {
  return tensors.reduce((sum, tensor) => sum + sliceBytes(tensor), 0);
}
