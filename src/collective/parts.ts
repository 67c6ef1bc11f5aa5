import type { Group } from "./group.ts";
import { inTurn } from "./prepared.ts";
import type { Incoming, Outgoing } from "./transfer.ts";

/** What every wire type can be cut at: a q8_0 block. */
const segmentStep = 32;

/** A part of values, and of their encoding. */
export interface ValueRange {
  readonly values: Float32Array;
  readonly bytes: Uint8Array;
}

/** Cuts values and their encoding into one segment per rank, as equal as whole blocks allow; some may be empty. */
export function segmentsOf(group: Group, values: Float32Array, encoded: Uint8Array): ValueRange[] {
  const blocks = Math.ceil(values.length / segmentStep);
  const border = (rank: number) => Math.min(Math.floor((rank * blocks) / group.size) * segmentStep, values.length);
  return Array.from({ length: group.size }, (_, rank) => ({
    values: values.subarray(border(rank), border(rank + 1)),
    bytes: encoded.subarray(group.wire.bytes(border(rank)), group.wire.bytes(border(rank + 1))),
  }));
}

/** The same bytes to all other ranks. */
export function toOthers(group: Group, bytes: Uint8Array): Outgoing[] {
  return group.others().map((rank) => ({ link: group.link(rank), bytes }));
}

/** The values that a part of their encoding belongs to. `offset` is in bytes, at a block. */
function valuesAt(group: Group, values: Float32Array, part: Uint8Array, offset: number): Float32Array {
  const { blockBytes, blockElements } = group.wire;
  const start = (offset / blockBytes) * blockElements;
  return values.subarray(start, start + (part.length / blockBytes) * blockElements);
}

function decodingTo(group: Group, values: Float32Array): Incoming["taking"] {
  return (part, offset) => group.wire.decoding(part, valuesAt(group, values, part, offset));
}

function addingTo(group: Group, values: Float32Array): Incoming["taking"] {
  return (part, offset) => group.wire.accumulating(part, valuesAt(group, values, part, offset));
}

/** Values from `from` take the place of `values`. */
export function replacing(group: Group, from: number, values: Float32Array): Incoming {
  return { link: group.link(from), bytes: group.wire.bytes(values.length), taking: decodingTo(group, values) };
}

/** Values from `from` are added to `values`. */
export function adding(group: Group, from: number, values: Float32Array): Incoming {
  return { link: group.link(from), bytes: group.wire.bytes(values.length), taking: addingTo(group, values) };
}

/** Like `replacing`, and keeps the bytes as they came in `encoded`, to be passed on. */
export function keeping(group: Group, from: number, values: Float32Array, encoded: Uint8Array): Incoming {
  const incoming = replacing(group, from, values);
  return {
    ...incoming,
    taking(part, offset) {
      const kept = encoded.subarray(offset, offset + part.length);
      return inTurn([() => kept.set(part), incoming.taking(part, offset)]);
    },
  };
}

/**
 * Sums up `values` over all ranks in the order of ranks; this rank's are those that are encoded in `own`. Of the first
 * two summands rank 1 takes its own first, which gives the same sum, so that it is done while the other's come.
 */
export function summing(group: Group, values: Float32Array, own: Uint8Array): Incoming[] {
  const { rank, size } = group;
  const ranks = Array.from({ length: size }, (_, i) => i);
  if (rank === 1) ranks.splice(0, 2, 1, 0);
  return ranks.map((from, i): Incoming => {
    const taking = i === 0 ? decodingTo(group, values) : addingTo(group, values);
    return from === rank
      ? { link: undefined, bytes: own, taking }
      : { link: group.link(from), bytes: own.length, taking };
  });
}
