import { createHash } from "node:crypto";

/** The key of one direction between two ranks. @param {number} from @param {number} to */
export function keyOf(from, to) {
  return createHash("sha256").update(`${from}>${to}`).digest();
}

/**
 * The other ranks of a group on this machine, as `openLinks` wants them.
 * @param {number} rank @param {readonly number[]} ports
 */
export function peersOf(rank, ports) {
  const others = ports.map((port, peer) => ({ rank: peer, host: "127.0.0.1", port })).filter((p) => p.rank !== rank);
  return others.map((peer) => ({ ...peer, sendKey: keyOf(rank, peer.rank), receiveKey: keyOf(peer.rank, rank) }));
}
