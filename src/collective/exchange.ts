import type { Collective } from "./collective.ts";
import type { Group } from "./group.ts";
import { summing } from "./parts.ts";
import { transfer } from "./transfer.ts";

/** Everyone sends its values to everyone, and sums up in the order of ranks: one hop, (N-1) payloads per rank. */
export function exchange(group: Group): Collective {
  const links = group.others().map((rank) => group.link(rank));
  const allReduce = (values: Float32Array) => {
    const bytes = group.encode(values);
    const outgoing = links.map((link) => ({ link, bytes }));
    transfer(group, outgoing, summing(group, values, bytes));
  };
  return { name: "exchange", allReduce: (values) => group.run(() => allReduce(values)) };
}
