import { closeSocket, connectTo, receiveExact, type Socket, SocketError, sendAll } from "../native/sockets.ts";
import { Callers } from "./callers.ts";
import type { CipherName } from "./cipher.ts";
import { frameType } from "./frame.ts";
import { checkGreeting, greetingBytes, type LinkKeys, linkCiphers, newChallenge, writeGreeting } from "./handshake.ts";
import { Link, orLost } from "./link.ts";

/** Another rank, as the control channel describes it. */
export interface LinkPeer {
  readonly rank: number;
  /** A numeric address and the port it listens on: only used where this rank is the higher one, which dials. */
  readonly host: string;
  readonly port: number;
  /** Keys of 32 random bytes, one for each direction: this rank's `sendKey` is the peer's `receiveKey`. */
  readonly sendKey: Uint8Array;
  readonly receiveKey: Uint8Array;
}

/** What opening all links of a rank takes. */
export interface LinksSetup {
  readonly rank: number;
  /** All other ranks. */
  readonly peers: readonly LinkPeer[];
  /** A listening socket: `listenOn`. Stays open. */
  readonly listener: Socket;
  /** The same on all ranks. */
  readonly cipher: CipherName;
  /** Bytes that a frame carries at most, the same on all ranks. */
  readonly maxPayload: number;
  /** Milliseconds for all of it. */
  readonly deadlineMs: number;
}

/** Bytes that a frame carries unless a plan says otherwise: enough to make its fixed cost small. */
export const defaultMaxPayload = 128 * 1024;

/** Milliseconds between attempts to dial. */
const dialPauseMs = 20;

/**
 * Opens this rank's links to all others: dials the lower ranks, in order, and accepts the higher ones. Connections
 * that do not prove their key are dropped. Blocks; returns the links by rank, or throws `LINK_LOST`.
 */
export function openLinks(setup: LinksSetup): Map<number, Link> {
  const deadline = performance.now() + setup.deadlineMs;
  const links = new Map<number, Link>();
  try {
    const lower = setup.peers.filter((peer) => peer.rank < setup.rank).sort((a, b) => a.rank - b.rank);
    for (const peer of lower) links.set(peer.rank, dial(setup, peer, deadline));
    acceptHigher(setup, links, deadline);
    return links;
  } catch (error) {
    for (const link of links.values()) link.close();
    throw error;
  }
}

/**
 * Dials until `deadline`: a listener may be busy, or still with links of before, and hang up. One that answers with
 * another key is not asked again.
 */
function dial(setup: LinksSetup, peer: LinkPeer, deadline: number): Link {
  return orLost(setup.rank, peer.rank, () => {
    for (;;) {
      try {
        return dialOnce(setup, peer, deadline);
      } catch (error) {
        if (!(error instanceof SocketError) || performance.now() + dialPauseMs > deadline) throw error;
        pause(dialPauseMs);
      }
    }
  });
}

function dialOnce(setup: LinksSetup, peer: LinkPeer, deadline: number): Link {
  const socket = connectTo(peer.host, peer.port, deadline);
  try {
    return greet(setup, keysOf(setup, peer), socket, deadline);
  } catch (error) {
    closeSocket(socket);
    throw error;
  }
}

function pause(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

function greet(setup: LinksSetup, keys: LinkKeys, socket: Socket, deadline: number): Link {
  const { cipher, maxPayload } = setup;
  const own = newChallenge();
  sendAll(socket, writeGreeting(frameType.hello, keys, cipher, own, []), deadline);
  const answer = new Uint8Array(greetingBytes);
  receiveExact(socket, answer, deadline);
  const challenges = [own, checkGreeting(frameType.accept, keys, cipher, answer, [own])];
  sendAll(socket, writeGreeting(frameType.confirm, keys, cipher, own, challenges), deadline);
  return new Link({ ...linkCiphers(keys, cipher, challenges), socket, maxPayload });
}

function acceptHigher(setup: LinksSetup, links: Map<number, Link>, deadline: number): void {
  const missing = new Map<number, LinkKeys>();
  for (const peer of setup.peers) if (peer.rank > setup.rank) missing.set(peer.rank, keysOf(setup, peer));
  using callers = new Callers(setup);
  while (missing.size > 0) {
    const [first] = missing.keys();
    const arrived = orLost(setup.rank, first!, () => callers.advance(missing, deadline));
    for (const link of arrived) {
      missing.delete(link.peer);
      links.set(link.peer, link);
    }
  }
}

function keysOf({ rank }: LinksSetup, { rank: peer, sendKey, receiveKey }: LinkPeer): LinkKeys {
  return { rank, peer, sendKey, receiveKey };
}
