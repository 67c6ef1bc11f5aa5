import { autoCollective } from "../collective/auto.ts";
import { broadcast } from "../collective/broadcast.ts";
import { calibrate } from "../collective/calibrate.ts";
import type { Choice, LinkMeasurements } from "../collective/choose.ts";
import type { CipherName } from "../collective/cipher.ts";
import { type Collective, type CollectiveName, openCollective } from "../collective/collective.ts";
import { Group, type LinkStatistics } from "../collective/group.ts";
import type { Link } from "../collective/link.ts";
import { measure } from "../collective/measure.ts";
import { defaultMaxPayload, openLinks } from "../collective/openLinks.ts";
import { openWire, type WireName } from "../collective/wire.ts";
import type { Socket } from "../native/sockets.ts";
import type { Reducer } from "./reducer.ts";
import type { StepTimes } from "./stepProfile.ts";

/** How this rank is linked to the others. Plain data: it comes over the control channel. */
export interface LinkSetup {
  readonly rank: number;
  readonly size: number;
  /** All other ranks; keys in base64. */
  readonly peers: readonly LinkPeerSetup[];
  readonly cipher: CipherName;
  readonly wire: WireName;
  readonly collective: CollectiveName | "auto";
}

/** Another rank: where it listens, and the keys of both directions. */
export interface LinkPeerSetup {
  readonly rank: number;
  readonly host: string;
  readonly port: number;
  readonly sendKey: string;
  readonly receiveKey: string;
}

/** What was found out about the links between all ranks. Plain data. */
export interface Network {
  readonly measurements: LinkMeasurements;
  /** How the sums of one token travel, and why. */
  readonly token: Choice;
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
  /** Where the collective was chosen by it. */
  readonly network: Network | undefined;
  readonly #links: ReadonlyMap<number, Link>;
  readonly #sums: Group;
  readonly #idle: Group;
  /** What opening and measuring the links took: it is no part of the figures. */
  readonly #before: LinkStatistics;

  /**
   * Opens the links. Blocks; throws `LINK_LOST`.
   *
   * @param embeddingLength - values of one token's sum
   * @param batch - most tokens of one sum
   */
  constructor(listener: Socket, setup: LinkSetup, embeddingLength: number, batch: number) {
    const { rank, size, cipher } = setup;
    const peers = setup.peers.map(withKeys);
    const options = { rank, peers, listener, cipher, maxPayload: defaultMaxPayload, deadlineMs: openDeadline };
    this.#links = openLinks(options);
    const group = { rank, size, links: this.#links, wire: openWire(setup.wire) };
    this.#sums = new Group({ ...group, maxElements: embeddingLength * batch, deadlineMs: sumDeadline });
    this.#idle = new Group({ ...group, maxElements: 0, deadlineMs: idleDeadline });
    const { collective, network } = openReduction(setup.collective, this.#sums, embeddingLength);
    this.reducer = groupReducer(collective);
    this.network = network;
    this.#before = this.#sums.statistics();
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

  /** Milliseconds so far, those of opening included: cheap. */
  get times(): Pick<StepTimes, "wireMs" | "cipherMs" | "waitMs"> {
    let cipherMs = 0;
    for (const link of this.#links.values()) cipherMs += link.cipherMs;
    return { ...this.#sums.times, cipherMs };
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

  [Symbol.dispose](): void {
    this.#sums[Symbol.dispose]();
  }
}

/** `auto` measures the links first, which all ranks do together. */
function openReduction(name: LinkSetup["collective"], group: Group, embeddingLength: number): Reduction {
  if (name !== "auto") return { collective: openCollective(name, group), network: undefined };
  const measurements = measure(group);
  const collective = autoCollective(group, measurements, calibrate(group, measurements));
  const token = collective.choiceFor(group.wire.bytes(embeddingLength));
  return { collective, network: { measurements: rounded(measurements), token } };
}

interface Reduction {
  readonly collective: Collective;
  readonly network: Network | undefined;
}

/** To microseconds and whole bytes: the table of the largest cluster has to fit a message between threads. */
function rounded({ size, latencyMs, bytesPerMs }: LinkMeasurements): LinkMeasurements {
  const table = (values: LinkMeasurements["latencyMs"], factor: number) =>
    values.map((row) => row.map((value) => Math.round(value * factor) / factor));
  return { size, latencyMs: table(latencyMs, 1000), bytesPerMs: table(bytesPerMs, 1) };
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
