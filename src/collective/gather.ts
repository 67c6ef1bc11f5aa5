import type { Group } from "./group.ts";
import { transfer } from "./transfer.ts";

/** What a rank contributes to a gathering, and what its root does with what comes. */
export interface Gathering {
  /** Rank that receives. */
  readonly root: number;
  /** This rank's bytes; those of the root stay where they are. */
  readonly own: Uint8Array;
  /** How many bytes each rank has, by rank. */
  readonly bytes: readonly number[];
  /** On the root: takes a part of a rank's bytes, from an offset on, which is valid only during the call. */
  take(rank: number, part: Uint8Array, offset: number): void;
}

/**
 * Brings bytes of all ranks to one of them, as they are. All ranks call it. One hop. Blocks. Throws `LINK_LOST`, after
 * which the group is of no more use.
 */
export function gather(group: Group, gathering: Gathering): void {
  group.run(() => (group.rank === gathering.root ? receiveAll(group, gathering) : send(group, gathering)));
}

function send(group: Group, { root, own }: Gathering): void {
  if (own.length > 0) transfer(group, [{ link: group.link(root), bytes: own }], []);
}

function receiveAll(group: Group, { bytes, take }: Gathering): void {
  const incoming = group.others().map((rank) => ({
    link: group.link(rank),
    bytes: bytes[rank]!,
    taking: (part: Uint8Array, offset: number) => () => take(rank, part, offset),
  }));
  transfer(group, [], incoming);
}
