import type { Collective } from "./collective.ts";
import type { Group } from "./group.ts";
import { replacing, summing } from "./parts.ts";
import { transfer } from "./transfer.ts";

/**
 * Everyone sends its values to rank 0, which sums up in the order of ranks and sends the result to everyone: two hops,
 * (N-1) payloads in and out of the centre. TPI-LLM (arXiv 2410.00531), section 3.2.
 */
export function star(group: Group): Collective {
  const allReduce = group.rank === 0 ? centre : point;
  return { name: "star", allReduce: (values) => group.run(() => allReduce(group, values)) };
}

function centre(group: Group, values: Float32Array): void {
  transfer(group, [], summing(group, values, group.encode(values)));
  const bytes = group.encode(values);
  group.wire.decode(bytes, values);
  const outgoing = group.others().map((rank) => ({ link: group.link(rank), bytes }));
  transfer(group, outgoing, []);
}

function point(group: Group, values: Float32Array): void {
  transfer(group, [{ link: group.link(0), bytes: group.encode(values) }], [replacing(group, 0, values)]);
}
