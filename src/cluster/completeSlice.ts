import { cpuDevice, openGgml } from "../native/ggml.ts";
import type { RankDescription } from "../plan/rankDescription.ts";
import { sliceDirectory } from "../weights/sliceDirectory.ts";
import type { SliceHeader } from "../weights/sliceHeader.ts";
import { cutPlan, layOutSlice } from "../weights/sliceLayout.ts";
import { checkSlice } from "../weights/sliceStore.ts";
import { SliceWriter } from "../weights/sliceWriter.ts";

/** A slice on this device's disk, complete. */
export interface StoredSlice {
  readonly path: string;
  readonly header: SliceHeader;
}

/** What obtaining a slice takes. */
export interface SliceWish {
  readonly description: RankDescription;
  readonly model: { readonly hash: string; readonly name: string };
  /** Folder of the cache; the default one if absent. */
  readonly cacheDir?: string | undefined;
  /** Told the bytes that came and all that have to come; not at all where the slice is there. */
  readonly onProgress?: ((bytes: number, total: number) => void) | undefined;
}

/** Where the blocks of a slice come from. */
export interface BlockSupply {
  /** Told which blocks are wanted, in this order, before the first of them is. */
  request(blocks: readonly number[]): Promise<void>;
  /** The plain bytes of one of them. */
  block(index: number): AsyncIterable<Uint8Array>;
}

/**
 * A rank's slice in this device's layouts: the one on its disk, or that completed by what is missing of it.
 * Throws `DISK_FULL`, `SLICE_INVALID`, and what the supply does.
 */
export async function completeSlice(wish: SliceWish, supply: BlockSupply): Promise<StoredSlice> {
  const [ggml, directory] = [openGgml(), sliceDirectory(wish.cacheDir)];
  const device = cpuDevice(ggml);
  const { hash, name } = wish.model;
  const header = layOutSlice(cutPlan(wish.description, { hash, name }).content, ggml, device);
  const { path, missing } = await checkSlice(directory, header);
  if (missing.length === 0) return { path, header };
  await using writer = await SliceWriter.open({ ggml, device, directory, header });
  const blocks = writer.missing;
  const total = blocks.reduce((sum, index) => sum + header.blocks[index]!.bytes, 0);
  let received = 0;
  const onBytes = (bytes: number) => {
    received += bytes;
    wish.onProgress?.(received, total);
  };
  if (blocks.length > 0) await supply.request(blocks);
  for (const index of blocks) await writer.writeBlock(index, counted(supply.block(index), onBytes));
  return { path: await writer.finish(), header };
}

async function* counted(pieces: AsyncIterable<Uint8Array>, onBytes: (bytes: number) => void) {
  for await (const piece of pieces) {
    onBytes(piece.length);
    yield piece;
  }
}
