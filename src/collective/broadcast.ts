import type { Group } from "./group.ts";
import { toOthers } from "./parts.ts";
import { transfer } from "./transfer.ts";

/**
 * Copies `bytes` of rank `root` into those of all other ranks, which all call it with as many. One hop. Blocks. Throws
 * `LINK_LOST`, after which the group is of no more use.
 */
export function broadcast(group: Group, root: number, bytes: Uint8Array): void {
  group.run(() => (group.rank === root ? sendToAll(group, bytes) : receiveFrom(group, root, bytes)));
}

function sendToAll(group: Group, bytes: Uint8Array): void {
  transfer(group, toOthers(group, bytes), []);
}

function receiveFrom(group: Group, root: number, bytes: Uint8Array): void {
  const taking = (part: Uint8Array, offset: number) => () => bytes.set(part, offset);
  transfer(group, [], [{ link: group.link(root), bytes: bytes.length, taking }]);
}
