import { hkdfSync } from "node:crypto";
import type { Link } from "../../collective/link.ts";
import { defaultMaxPayload, type LinkPeer, openLinks } from "../../collective/openLinks.ts";
import type { Socket } from "../../native/sockets.ts";
import type { LinkSetup } from "./rankLinks.ts";

/**
 * Two ranks have two connections: one that the engine thread uses, and one for its communication thread. Each set has
 * keys of its own, by which a listener tells callers for the one from those for the other.
 */
export type LinkSet = "engine" | "communication";

/** Milliseconds to open all links of both sets in. */
export const openDeadline = 20_000;
/** Milliseconds to measure the links in after that: pair by pair, and so longer for each other rank. */
export function measuringDeadline(others: number): number {
  return 8_000 + 2_000 * others;
}
/** Milliseconds that a sum may take, waiting for the slowest rank included. Lost devices are noticed sooner by others. */
export const sumDeadline = 120_000;

/**
 * Opens one set of links. The sets are opened one after the other, all ranks in the same order: a caller for the second
 * set that is refused because this rank still waits for others of the first calls again. Blocks; throws `LINK_LOST`.
 */
export function openLinkSet(
  set: LinkSet,
  listener: Socket,
  setup: LinkSetup,
  deadlineMs: number,
): ReadonlyMap<number, Link> {
  const { rank, cipher } = setup;
  const peers = peersOf(set, setup);
  return openLinks({ rank, peers, listener, cipher, maxPayload: defaultMaxPayload, deadlineMs });
}

/** The other ranks, with the keys of a set. */
export function peersOf(set: LinkSet, { peers }: Pick<LinkSetup, "peers">): LinkPeer[] {
  return peers.map(({ sendKey, receiveKey, ...peer }) => {
    return { ...peer, sendKey: keyOf(set, sendKey), receiveKey: keyOf(set, receiveKey) };
  });
}

/** The key of a set for a direction: each is derived from the one that was handed out, which itself is not used. */
function keyOf(set: LinkSet, base64: string): Uint8Array {
  return new Uint8Array(hkdfSync("sha256", Buffer.from(base64, "base64"), "", `stellium ${set} links`, 32));
}
