import { createHash } from "node:crypto";
import { StelliumError } from "../errors.ts";
import type { BlockReader } from "../weights/sharedReading.ts";
import { completeSlice, type SliceWish, type StoredSlice } from "./completeSlice.ts";
import type { CoordinatorChannel } from "./control/client.ts";
import type { WorkerChannel } from "./control/server.ts";

/** A worker's slice, of which it asks the coordinator for what is missing. Throws what `completeSlice` and the channel do. */
export function obtainSlice(channel: CoordinatorChannel, wish: SliceWish): Promise<StoredSlice> {
  return completeSlice(wish, {
    request: (blocks) => channel.send({ type: "slice-request", blocks: [...blocks] }),
    block: (index) => receivedBlock(channel, index),
  });
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
 * Sends the blocks of a slice that a worker asks for, cut from the model's files; holds one block at a time.
 * Throws `FILE_UNREADABLE`, `PROTOCOL_VIOLATION`.
 *
 * @param blocks - how many there are
 */
export async function sendSlice(
  channel: WorkerChannel,
  reader: BlockReader,
  blocks: number,
  wanted: readonly number[],
): Promise<void> {
  for (const [stream, index] of wanted.entries()) {
    if (index >= blocks) throw violation(`there is no block ${index}`);
    const parts: Uint8Array[] = [];
    for await (const part of reader.read(index)) parts.push(part.slice());
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
