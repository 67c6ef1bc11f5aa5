import { binomialTree } from "./binomialTree.ts";
import type { Collective } from "./collective.ts";
import type { Group } from "./group.ts";
import { adding, keeping } from "./parts.ts";
import { transfer } from "./transfer.ts";

/**
 * A binomial tree: sums go up to rank 0 and the result comes down, 2 log2(N) hops and payloads. A rank adds its
 * children's sums to its own values, the nearest child's first.
 */
export function tree(group: Group): Collective {
  return { name: "tree", allReduce: (values) => group.run(() => allReduce(group, values)) };
}

function allReduce(group: Group, values: Float32Array): void {
  const { rank, wire } = group;
  const { parent, children } = binomialTree(rank, group.size);
  for (const child of children) transfer(group, [], [adding(group, child, values)]);
  const bytes = group.encode(values);
  if (parent === undefined) {
    wire.decode(bytes, values);
  } else {
    transfer(group, [{ link: group.link(parent), bytes }], [keeping(group, parent, values, bytes)]);
  }
  // The child with most below it first.
  const outgoing = children.toReversed().map((child) => ({ link: group.link(child), bytes }));
  transfer(group, outgoing, []);
}
