import type { Collective } from "./collective.ts";
import type { Group } from "./group.ts";
import { adding, keeping, segmentsOf } from "./parts.ts";
import { transfer } from "./transfer.ts";

/**
 * Segments travel around the ring of ranks, first gathering summands, then as results: 2 (N-1) hops, 2 (N-1)/N
 * payloads per rank, and each rank talks to two others only. Segment s is summed up in the order s, s+1, ... s-1.
 */
export function ring(group: Group): Collective {
  return { name: "ring", allReduce: (values) => group.run(() => allReduce(group, values)) };
}

function allReduce(group: Group, values: Float32Array): void {
  const { rank, size, wire } = group;
  const segments = segmentsOf(group, values);
  const encoded = group.encode(values);
  const before = (steps: number) => segments[(rank - steps + 2 * size) % size]!;
  const bytesOf = ({ start, end }: { start: number; end: number }) => encoded.subarray(start, end);
  const [next, previous] = [group.link((rank + 1) % size), (rank + size - 1) % size];

  for (let step = 0; step < size - 1; step++) {
    const [sent, received] = [before(step), before(step + 1)];
    transfer(group, [{ link: next, bytes: bytesOf(sent) }], [adding(group, previous, received.values)]);
    wire.encode(received.values, bytesOf(received));
  }
  const own = before(size - 1);
  wire.decode(bytesOf(own), own.values);
  for (let step = 0; step < size - 1; step++) {
    const [sent, received] = [before(step - 1), before(step)];
    const incoming = keeping(group, previous, received.values, bytesOf(received));
    transfer(group, [{ link: next, bytes: bytesOf(sent) }], [incoming]);
  }
}
