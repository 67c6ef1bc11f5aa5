import type { Collective } from "./collective.ts";
import type { Group } from "./group.ts";
import { replacing, segmentsOf, summing } from "./parts.ts";
import { transfer } from "./transfer.ts";

/**
 * Everyone sums up one segment, in the order of ranks, and sends its result to everyone: two hops, 2 (N-1)/N payloads
 * per rank. A reduce-scatter and an all-gather without detours.
 */
export function mesh(group: Group): Collective {
  return { name: "mesh", allReduce: (values) => group.run(() => allReduce(group, values)) };
}

function allReduce(group: Group, values: Float32Array): void {
  const segments = segmentsOf(group, values);
  const encoded = group.encode(values);
  const bytesOf = (rank: number) => encoded.subarray(segments[rank]!.start, segments[rank]!.end);
  const own = bytesOf(group.rank);
  const sums = segments[group.rank]!.values;

  const parts = group.others().map((rank) => ({ link: group.link(rank), bytes: bytesOf(rank) }));
  transfer(group, parts, summing(group, sums, own));

  group.wire.encode(sums, own);
  group.wire.decode(own, sums);
  const results = group.others().map((rank) => ({ link: group.link(rank), bytes: own }));
  const gathered = group.others().map((rank) => replacing(group, rank, segments[rank]!.values));
  transfer(group, results, gathered);
}
