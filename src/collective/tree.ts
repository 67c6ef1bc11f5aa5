import { binomialTree } from "./binomialTree.ts";
import type { Collective } from "./collective.ts";
import type { Group } from "./group.ts";
import { adding, keeping } from "./parts.ts";
import { inTurn, type Prepared } from "./prepared.ts";
import { preparedCollective } from "./preparedCollective.ts";
import { Transfer } from "./transfer.ts";

/**
 * A binomial tree: sums go up to rank 0 and the result comes down, 2 log2(N) hops and payloads. A rank adds its
 * children's sums to its own values, the nearest child's first.
 */
export function tree(group: Group): Collective {
  return preparedCollective("tree", group, (values) => prepare(group, values));
}

function prepare(group: Group, values: Float32Array): Prepared {
  const { parent, children } = binomialTree(group.rank, group.size);
  const bytes = group.encodedFor(values);
  const additions = children.map((child) => new Transfer(group, [], [adding(group, child, values)]));
  const encode = group.wire.encoding(values, bytes);
  const finish = parent === undefined ? group.wire.decoding(bytes, values) : viaParent(group, parent, values, bytes);
  // The child with most below it first.
  const outgoing = children.toReversed().map((child) => ({ link: group.link(child), bytes }));
  const spread = new Transfer(group, outgoing, []);
  return inTurn([...additions.map((addition) => () => addition.run()), encode, finish, () => spread.run()]);
}

/** Sends a rank's sum up, and takes the result that comes down. */
function viaParent(group: Group, parent: number, values: Float32Array, bytes: Uint8Array): Prepared {
  const outgoing = [{ link: group.link(parent), bytes }];
  const transfer = new Transfer(group, outgoing, [keeping(group, parent, values, bytes)]);
  return () => transfer.run();
}
