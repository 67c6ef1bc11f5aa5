import { autoCollective } from "../collective/auto.ts";
import { broadcast } from "../collective/broadcast.ts";
import { correctionOf, fitting } from "../collective/calibrate.ts";
import type { CipherName } from "../collective/cipher.ts";
import { type Collective, type CollectiveName, openCollective } from "../collective/collective.ts";
import { type Gathering, gather } from "../collective/gather.ts";
import { Group, type LinkStatistics } from "../collective/group.ts";
import type { Link } from "../collective/link.ts";
import { defaultMaxPayload, openLinks } from "../collective/openLinks.ts";
import { tune } from "../collective/tune.ts";
import { tuningFile } from "../collective/tuningFile.ts";
import { openWire, type WireName } from "../collective/wire.ts";
import type { Socket } from "../native/sockets.ts";
import type { Reducer } from "./reducer.ts";

/** How this rank is linked to the others. Plain data: it comes over the control channel. */
export interface LinkSetup {
  readonly rank: number;
  readonly size: number;
  /** All other ranks; keys in base64. */
  readonly peers: readonly LinkPeerSetup[];
  readonly cipher: CipherName;
  readonly wire: WireName;
  readonly collective: CollectiveName | "auto";
  /** On rank 0: where it keeps what `auto` learned of a network. It is on this device, and crosses no channel. */
  readonly tuningDirectory?: string | undefined;
}

/** Another rank: where it listens, and the keys of both directions. */
export interface LinkPeerSetup {
  readonly rank: number;
  readonly host: string;
  readonly port: number;
  readonly sendKey: string;
  readonly receiveKey: string;
}

/** Milliseconds to open all links in. */
const openDeadline = 20_000;
/** Milliseconds that a sum may take, waiting for the slowest rank included. Lost devices are noticed sooner by others. */
const sumDeadline = 120_000;
/** Between steps a rank waits for as long as nobody asks for anything. */
const idleDeadline = 1e9;

/** The links of one rank to the others, and what travels over them. Used by the engine thread, which they block. */
export class RankLinks implements Disposable {
  readonly reducer: Reducer;
  readonly #links: ReadonlyMap<number, Link>;
  readonly #sums: Group;
  readonly #idle: Group;
  /** What opening and measuring the links took: it is no part of the figures. */
  readonly #before: LinkStatistics;

  /**
   * Opens the links. Blocks; throws `LINK_LOST`.
   *
   * @param maxElements - values of the largest sum
   */
  constructor(listener: Socket, setup: LinkSetup, maxElements: number) {
    const { rank, size, cipher } = setup;
    const peers = setup.peers.map(withKeys);
    const options = { rank, peers, listener, cipher, maxPayload: defaultMaxPayload, deadlineMs: openDeadline };
    this.#links = openLinks(options);
    const group = { rank, size, links: this.#links, wire: openWire(setup.wire) };
    this.#sums = new Group({ ...group, maxElements, deadlineMs: sumDeadline });
    this.#idle = new Group({ ...group, maxElements: 0, deadlineMs: idleDeadline });
    this.reducer = groupReducer(openReduction(setup, this.#sums));
    this.#before = this.#sums.statistics();
  }

  /** Bytes that this rank sent to open and measure the links. */
  get openingBytes(): number {
    return this.#before.bytesSent;
  }

  /** Descriptors of all connections: shutting them down wakes a thread that waits for one. */
  get sockets(): Socket[] {
    return [...this.#links.values()].map((link) => link.socket);
  }

  get statistics(): LinkStatistics {
    const now = this.#sums.statistics();
    const since = Object.entries(now).map(([name, value]) => [
      name,
      value - this.#before[name as keyof LinkStatistics],
    ]);
    return Object.fromEntries(since) as unknown as LinkStatistics;
  }

  /** Tells all other ranks what is done next and, for a step, its tokens' rows of the embedding. */
  announce(command: Int32Array, embeddings: Float32Array): void {
    broadcast(this.#sums, 0, bytesOf(command));
    if (embeddings.length > 0) broadcast(this.#sums, 0, bytesOf(embeddings));
  }

  /** Waits for what rank 0 does next. */
  receiveCommand(command: Int32Array): void {
    broadcast(this.#idle, 0, bytesOf(command));
  }

  /** Waits for the embedding rows of a step that was announced. */
  receiveRows(embeddings: Float32Array): void {
    broadcast(this.#sums, 0, bytesOf(embeddings));
  }

  /** Brings bytes of all ranks to one; see `gather`. */
  gather(gathering: Gathering): void {
    gather(this.#sums, gathering);
  }

  [Symbol.dispose](): void {
    this.#sums[Symbol.dispose]();
  }
}

/** `auto` looks at the links first, and measures them where they are new to it, which all ranks do together. */
function openReduction(setup: LinkSetup, group: Group): Collective {
  const { collective: name, tuningDirectory, peers, wire, cipher } = setup;
  if (name !== "auto") return openCollective(name, group);
  const hosts = peers.map(({ host }) => host);
  const network = { hosts, wire, cipher, probes: fitting(group).length };
  const { measurements, trials } = tune(
    group,
    tuningDirectory === undefined ? undefined : tuningFile(tuningDirectory, network),
  );
  return autoCollective(group, measurements, correctionOf(group, trials));
}

/** Sums up as soon as a block is computed, in the same thread. */
function groupReducer(collective: Collective): Reducer {
  let stopped = false;
  return {
    separates: true,
    lanes: 1,
    start(_, partial) {
      collective.allReduce(partial);
      stopped = Number.isNaN(partial[0]);
    },
    wait() {
      const sound = !stopped;
      stopped = false;
      return sound;
    },
  };
}

function withKeys(peer: LinkPeerSetup) {
  const key = (base64: string) => Buffer.from(base64, "base64");
  return { ...peer, sendKey: key(peer.sendKey), receiveKey: key(peer.receiveKey) };
}

function bytesOf({ buffer, byteOffset, byteLength }: Int32Array | Float32Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}
