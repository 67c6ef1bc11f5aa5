import { createHash } from "node:crypto";
import { StelliumError } from "../errors.ts";
import { cpuDevice, openGgml } from "../native/ggml.ts";
import type { RankDescription } from "../plan/rankDescription.ts";
import type { ByteSource } from "../weights/byteSource.ts";
import type { TensorSlice } from "../weights/slice.ts";
import { sliceDirectory } from "../weights/sliceDirectory.ts";
import type { SliceHeader } from "../weights/sliceHeader.ts";
import { cutPlan, layOutSlice } from "../weights/sliceLayout.ts";
import { readSlices } from "../weights/sliceReader.ts";
import { checkSlice } from "../weights/sliceStore.ts";
import { SliceWriter } from "../weights/sliceWriter.ts";
import type { CoordinatorChannel } from "./control/client.ts";
import type { WorkerChannel } from "./control/server.ts";

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
  readonly onProgress?: (bytes: number, total: number) => void;
}

/**
 * A worker's slice: the one on its disk, or that completed by what is missing of it, asked from the coordinator.
 * Throws `DISK_FULL`, `SLICE_INVALID`, `PROTOCOL_VIOLATION`, and what reading the channel throws.
 */
export async function obtainSlice(channel: CoordinatorChannel, wish: SliceWish): Promise<StoredSlice> {
  const [ggml, directory] = [openGgml(), sliceDirectory(wish.cacheDir)];
  const device = cpuDevice(ggml);
  const { hash, name } = wish.model;
  const header = layOutSlice(cutPlan(wish.description, { hash, name }).content, ggml, device);
  const { path, missing } = await checkSlice(directory, header);
  if (missing.length === 0) return { path, header };
  await using writer = await SliceWriter.open({ ggml, device, directory, header, damaged: missing });
  const blocks = writer.missing;
  const total = blocks.reduce((sum, index) => sum + header.blocks[index]!.bytes, 0);
  let received = 0;
  const onBytes = (bytes: number) => {
    received += bytes;
    wish.onProgress?.(received, total);
  };
  if (blocks.length > 0) await channel.send({ type: "slice-request", blocks: [...blocks] });
  for (const index of blocks) await writer.writeBlock(index, receivedBlock(channel, index, onBytes));
  return { path: await writer.finish(), header };
}

/** The bytes of one block as they come. Throws at its end where they are not what was sent. */
async function* receivedBlock(
  channel: CoordinatorChannel,
  index: number,
  onBytes: (bytes: number) => void,
): AsyncGenerator<Uint8Array, void> {
  const { value: announced } = await channel.next();
  if (announced?.type !== "slice-block" || announced.index !== index) throw violation(`block ${index} was expected`);
  const hash = createHash("sha256");
  for (let offset = 0; offset < announced.bytes; ) {
    const { value: frame } = await channel.next();
    if (frame?.type !== "data" || frame.stream !== announced.stream || frame.offset !== offset) {
      throw violation(`bytes of block ${index} from ${offset} on were expected`);
    }
    hash.update(frame.bytes);
    offset += frame.bytes.length;
    onBytes(frame.bytes.length);
    yield frame.bytes;
  }
  if (hash.digest("hex") !== announced.sha256) throw violation(`block ${index} was damaged on its way`);
}

/**
 * Sends the blocks of a slice that a worker asks for, cut from the model's files; holds one block at a time.
 * Throws `FILE_UNREADABLE`, `PROTOCOL_VIOLATION`.
 *
 * @param blocks - the parts of tensors in each block, as `cutPlan` lists them
 */
export async function sendSlice(
  channel: WorkerChannel,
  sources: readonly ByteSource[],
  blocks: readonly (readonly TensorSlice[])[],
  wanted: readonly number[],
): Promise<void> {
  for (const [stream, index] of wanted.entries()) {
    const slices = blocks[index];
    if (slices === undefined) throw violation(`there is no block ${index}`);
    const parts: Uint8Array[] = [];
    for await (const part of readSlices(sources, slices)) parts.push(part.slice());
    const hash = createHash("sha256");
    for (const part of parts) hash.update(part);
    const bytes = parts.reduce((sum, part) => sum + part.length, 0);
    await channel.send({ type: "slice-block", index, stream, bytes, sha256: hash.digest("hex") });
    let offset = 0;
    for (const part of parts) {
      await channel.sendData(stream, offset, part);
      offset += part.length;
    }
  }
}

function violation(detail: string): StelliumError {
  return new StelliumError("PROTOCOL_VIOLATION", { peer: "the other device", reason: detail });
}
