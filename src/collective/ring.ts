import type { Collective } from "./collective.ts";
import type { Group } from "./group.ts";
import { adding, keeping, segmentsOf } from "./parts.ts";
import { inTurn, type Prepared } from "./prepared.ts";
import { preparedCollective } from "./preparedCollective.ts";
import { Transfer } from "./transfer.ts";

/**
 * Segments travel around the ring of ranks, first gathering summands, then as results: 2 (N-1) hops, 2 (N-1)/N
 * payloads per rank, and each rank talks to two others only. Segment s is summed up in the order s, s+1, ... s-1.
 */
export function ring(group: Group): Collective {
  return preparedCollective("ring", group, (values) => prepare(group, values));
}

function prepare(group: Group, values: Float32Array): Prepared {
  const { rank, size, wire } = group;
  const encoded = group.encodedFor(values);
  const segments = segmentsOf(group, values, encoded);
  const before = (steps: number) => segments[(rank - steps + 2 * size) % size]!;
  const [next, previous] = [group.link((rank + 1) % size), (rank + size - 1) % size];

  const gathering = Array.from({ length: size - 1 }, (_, step) => {
    const [sent, received] = [before(step), before(step + 1)];
    const incoming = adding(group, previous, received.values);
    const hop = new Transfer(group, [{ link: next, bytes: sent.bytes }], [incoming]);
    return [() => hop.run(), wire.encoding(received.values, received.bytes)];
  });
  const spreading = Array.from({ length: size - 1 }, (_, step) => {
    const [sent, received] = [before(step - 1), before(step)];
    const incoming = keeping(group, previous, received.values, received.bytes);
    const hop = new Transfer(group, [{ link: next, bytes: sent.bytes }], [incoming]);
    return () => hop.run();
  });
  const own = before(size - 1);
  const decodeOwn = wire.decoding(own.bytes, own.values);
  return inTurn([wire.encoding(values, encoded), ...gathering.flat(), decodeOwn, ...spreading]);
}
