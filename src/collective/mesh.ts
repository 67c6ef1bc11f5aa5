import type { Collective } from "./collective.ts";
import type { Group } from "./group.ts";
import { replacing, segmentsOf, summing, toOthers } from "./parts.ts";
import type { Prepared } from "./prepared.ts";
import { preparedCollective } from "./preparedCollective.ts";
import { Transfer } from "./transfer.ts";

/**
 * Everyone sums up one segment, in the order of ranks, and sends its result to everyone: two hops, 2 (N-1)/N payloads
 * per rank. A reduce-scatter and an all-gather without detours.
 */
export function mesh(group: Group): Collective {
  return preparedCollective("mesh", group, (values) => prepare(group, values));
}

function prepare(group: Group, values: Float32Array): Prepared {
  const encoded = group.encodedFor(values);
  const segments = segmentsOf(group, values, encoded);
  const { values: sums, bytes: own } = segments[group.rank]!;
  const encode = group.wire.encoding(values, encoded);
  const encodeSums = group.wire.encoding(sums, own);
  const decodeSums = group.wire.decoding(own, sums);
  const parts = group.others().map((rank) => ({ link: group.link(rank), bytes: segments[rank]!.bytes }));
  const gathered = group.others().map((rank) => replacing(group, rank, segments[rank]!.values));
  const scatter = new Transfer(group, parts, summing(group, sums, own));
  const gather = new Transfer(group, toOthers(group, own), gathered);
  return () => {
    encode();
    scatter.run();
    encodeSums();
    decodeSums();
    gather.run();
  };
}
