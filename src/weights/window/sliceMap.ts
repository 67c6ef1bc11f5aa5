import { StelliumError } from "../../errors.ts";
import { pageBytes, roundUp } from "../pages.ts";
import { recordBytes, type SliceBlock } from "../sliceHeader.ts";
import { expertKind } from "../sliceLayout.ts";
import { openSlice, type SliceFile } from "../sliceStore.ts";
import type { BlockMap, MappedBlock } from "./blockMap.ts";

/** Where the blocks of a complete slice lie. Throws `SLICE_INVALID`, `FILE_UNREADABLE`. */
export async function sliceMap(path: string): Promise<BlockMap> {
  await using slice = await openSlice(path);
  const checksums = await slice.checksums();
  const { blocks } = slice.header;
  const mapped = blocks.map((block, i) => mappedBlock(slice, block, i, checksums[i]));
  return { files: [path], blocks: mapped, experts: blocks.filter(({ kind }) => kind !== expertKind).length };
}

function mappedBlock(
  slice: SliceFile,
  block: SliceBlock,
  index: number,
  checksum: Uint8Array | undefined,
): MappedBlock {
  const { dataOffset, journalOffset } = slice.encoded;
  if (block.tensors.length === 0) return { extents: [], room: 0, tensors: [] };
  if (checksum === undefined)
    throw new StelliumError("SLICE_INVALID", { path: slice.path, reason: `its block ${index} is incomplete` });
  return {
    extents: [{ file: 0, offset: dataOffset + block.offset, bytes: block.bytes, at: 0 }],
    room: roundUp(block.bytes, pageBytes),
    tensors: block.tensors,
    recorded: { checksum, offset: journalOffset + index * recordBytes, bytes: recordBytes },
  };
}
