import { createHash } from "node:crypto";
import { StelliumError } from "../errors.ts";
import type { ByteSource } from "../weights/byteSource.ts";
import type { BlockSource } from "../weights/obtainSlice.ts";
import type { TensorSlice } from "../weights/slice.ts";
import { readSlices } from "../weights/sliceReader.ts";
import type { CoordinatorChannel } from "./control/client.ts";
import type { WorkerChannel } from "./control/server.ts";

/** A worker's blocks, as its coordinator sends them when asked. */
export function receivedBlocks(channel: CoordinatorChannel): BlockSource {
  return {
    begin: (blocks) => channel.send({ type: "slice-request", blocks: [...blocks] }),
    block: (index) => receivedBlock(channel, index),
  };
}

/** The bytes of one block as they come. Throws at its end where they are not what was sent. */
async function* receivedBlock(channel: CoordinatorChannel, index: number): AsyncGenerator<Uint8Array, void> {
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
    yield frame.bytes;
  }
  if (hash.digest("hex") !== announced.sha256) throw violation(`block ${index} was damaged on its way`);
}

/**
 * Sends the blocks of a slice that a worker asks for, cut from the model's files. Each is read twice,
 * since its checksum goes ahead of it: that is no more than a piece of it in memory.
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
    const hash = createHash("sha256");
    let bytes = 0;
    for await (const part of readSlices(sources, slices)) {
      hash.update(part);
      bytes += part.length;
    }
    await channel.send({ type: "slice-block", index, stream, bytes, sha256: hash.digest("hex") });
    let offset = 0;
    for await (const part of readSlices(sources, slices)) {
      await channel.sendData(stream, offset, part);
      offset += part.length;
    }
  }
}

function violation(detail: string): StelliumError {
  return new StelliumError("PROTOCOL_VIOLATION", { peer: "the other device", reason: detail });
}
