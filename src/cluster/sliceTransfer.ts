import { createHash } from "node:crypto";
import { StelliumError } from "../errors.ts";
import type { BlockSource } from "../weights/obtainSlice.ts";
import { sliceBytes, type TensorSlice } from "../weights/slice.ts";
import type { CoordinatorChannel } from "./control/client.ts";
import type { WorkerChannel } from "./control/server.ts";

/**
 * A worker's blocks, as its coordinator sends them when asked.
 *
 * @param blocks - the parts of tensors in each block, as `cutPlan` lists them
 */
export function receivedBlocks(channel: CoordinatorChannel, blocks: readonly (readonly TensorSlice[])[]): BlockSource {
  return {
    begin: (indices) => channel.send({ type: "slice-request", blocks: [...indices] }),
    block: (index) => receivedBlock(channel, index, plainBytesOf(blocks[index] ?? [])),
  };
}

/** The bytes of one block as they come. Throws at its end where they are not what was sent. */
async function* receivedBlock(
  channel: CoordinatorChannel,
  index: number,
  bytes: number,
): AsyncGenerator<Uint8Array, void> {
  const { value: announced } = await channel.next();
  if (announced?.type !== "slice-block" || announced.index !== index) throw violation(`block ${index} was expected`);
  if (announced.bytes !== bytes) {
    throw violation(`block ${index} is announced with ${announced.bytes} bytes, and has ${bytes}`);
  }
  const hash = createHash("sha256");
  for (let offset = 0; offset < announced.bytes; ) {
    const { value: frame } = await channel.next();
    if (frame?.type !== "data" || frame.stream !== announced.stream || frame.offset !== offset) {
      throw violation(`bytes of block ${index} from ${offset} on were expected`);
    }
    hash.update(frame.bytes);
    offset += frame.bytes.length;
    if (offset > bytes) throw violation(`block ${index} has more than the ${bytes} bytes that were announced`);
    yield frame.bytes;
  }
  const { value: end } = await channel.next();
  if (end?.type !== "slice-checksum" || end.stream !== announced.stream) throw violation(`block ${index} has no end`);
  if (hash.digest("hex") !== end.sha256) throw violation(`block ${index} was damaged on its way`);
}

/**
 * Sends the blocks of a slice that a worker asks for, as they are cut: no more than a piece of one is in memory. Throws
 * `PROTOCOL_VIOLATION`, also for blocks that are not in ascending order: other ranks read along. Throws what the source
 * does.
 *
 * @param blocks - the parts of tensors in each block, as `cutPlan` lists them
 */
export async function sendSlice(
  channel: WorkerChannel,
  source: BlockSource,
  blocks: readonly (readonly TensorSlice[])[],
  wanted: readonly number[],
): Promise<void> {
  if (wanted.some((index, i) => index <= (wanted[i - 1] ?? -1))) throw violation("it asks for blocks out of order");
  for (const [stream, index] of wanted.entries()) {
    const slices = blocks[index];
    if (slices === undefined) throw violation(`there is no block ${index}`);
    const bytes = plainBytesOf(slices);
    await channel.send({ type: "slice-block", index, stream, bytes });
    const hash = createHash("sha256");
    let offset = 0;
    for await (const part of source.block(index)) {
      hash.update(part);
      await channel.sendData(stream, offset, part);
      offset += part.length;
    }
    await channel.send({ type: "slice-checksum", stream, sha256: hash.digest("hex") });
  }
}

/** Bytes of a block, in the plain layout. */
export function plainBytesOf(slices: readonly TensorSlice[]): number {
  return slices.reduce((sum, slice) => sum + sliceBytes(slice), 0);
}

function violation(detail: string): StelliumError {
  return new StelliumError("PROTOCOL_VIOLATION", { peer: "the other device", reason: detail });
}
