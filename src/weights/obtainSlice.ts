import type { Device, Ggml } from "../native/ggml.ts";
import { sliceBytes } from "./slice.ts";
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
}

/**
 * A complete slice: the one on the disk, or that completed by what is missing of it. Returns its path.
 * Throws `DISK_FULL` before anything is written, `CACHE_UNWRITABLE`, `SLICE_INVALID`, and what the source does.
 */
export async function obtainSlice({ source, onProgress, ...wish }: SliceWish): Promise<string> {
  const { path, reason } = await checkSlice(wish.directory, wish.header);
  if (reason === undefined) return path;
  await using writer = await SliceWriter.open(wish);
  // Another process may have finished it since: two devices without a share have the same slice.
  if ((await checkSlice(wish.directory, wish.header)).reason === undefined) return path;
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
  return await writer.finish();
}

/** A layout may take more or less room than that. */
function plainBlockBytes({ tensors }: SliceBlock): number {
  return tensors.reduce((sum, tensor) => sum + sliceBytes(tensor), 0);
}
