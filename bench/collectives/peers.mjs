import { createHash } from "node:crypto";

/** @typedef {{ host: string, port: number }} Address */

/**
 * The other ranks as `openLinks` wants them, with keys that all ranks derive from one secret of the run.
 * @param {number} rank
 * @param {readonly Address[]} addresses by rank
 * @param {string} secret
 */
export function peersOf(rank, addresses, secret) {
  /** @param {number} from @param {number} to */
  const key = (from, to) => createHash("sha256").update(`${secret} ${from} ${to}`).digest();
  const peers = addresses.map((address, peer) => ({
    rank: peer,
    ...address,
    sendKey: key(rank, peer),
    receiveKey: key(peer, rank),
  }));
  return peers.filter((peer) => peer.rank !== rank);
}
