import { broadcast } from "../../collective/broadcast.ts";
import { fitting, probeElements } from "../../collective/calibrate.ts";
import type { Choice, LinkMeasurements } from "../../collective/choose.ts";
import type { CipherName } from "../../collective/cipher.ts";
import type { CollectiveName } from "../../collective/collective.ts";
import { type Gathering, gather } from "../../collective/gather.ts";
import { addFigures, Group, type GroupOptions, type LinkStatistics } from "../../collective/group.ts";
import type { Link } from "../../collective/link.ts";
import { type Tuning, tune } from "../../collective/tune.ts";
import { tuningFile } from "../../collective/tuningFile.ts";
import { openWire, type WireName } from "../../collective/wire.ts";
import { type Socket, shutdownSocket } from "../../native/sockets.ts";
import { noRecorder, type Recorder } from "../../trace/recorder.ts";
import { spanKind } from "../../trace/spans.ts";
import { dividedTokens, tokensOfLane } from "../division.ts";
import type { Reducer } from "../reducer.ts";
import type { Communication } from "./communication.ts";
import { measuringDeadline, openDeadline, openLinkSet, sumDeadline } from "./linkSets.ts";
import { inlineReducer, overlappingReducer } from "./rankReducers.ts";
import { openReductions, type SumSizes, sumGroups, sumSizes } from "./reduction.ts";

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
  /** True if large passes are divided, so that one part is computed while the sums of the other travel; true if absent. */
  readonly overlap?: boolean | undefined;
  /** Milliseconds to open all links in; 20,000 if absent. */
  readonly deadlineMs?: number | undefined;
  /** Milliseconds to measure them in after that, if `auto` has to; see `measuringDeadline` if absent. */
  readonly measuringMs?: number | undefined;
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
export interface RankNetwork {
  readonly measurements: LinkMeasurements;
  /** How the sums of one token travel, and why. */
  readonly token: Choice;
}

/** Between passes a rank waits for as long as nobody asks for anything. */
const idleDeadline = 1e9;

/** What links are opened with. */
export interface RankLinksParts {
  readonly listener: Socket;
  readonly setup: LinkSetup;
  /** Values per token of hidden states, and of the largest sum in f32. */
  readonly values: SumSizes;
  /** Most tokens of one pass. */
  readonly batch: number;
  /** Gives this rank's communication thread, where one is of use. */
  readonly communication: () => Communication;
  readonly recorder?: Recorder | undefined;
}

/** The links of one rank to the others, and what travels over them. Used by the engine thread, which they block. */
export class RankLinks implements Disposable {
  readonly reducer: Reducer;
  #network: RankNetwork | undefined;
  readonly #links: ReadonlyMap<number, Link>;
  readonly #sums: Group;
  readonly #exact: Group;
  readonly #idle: Group;
  readonly #recorder: Recorder;
  /** Where passes are divided. */
  readonly #communication: Communication | undefined;
  /** What opening and measuring the links took: it is no part of the figures. */
  readonly #before: LinkStatistics;

  /** Opens the links. Blocks; throws `LINK_LOST`. */
  constructor({ listener, setup, values, batch, communication, recorder = noRecorder }: RankLinksParts) {
    const { rank, size, overlap = true, deadlineMs = openDeadline, measuringMs = measuringDeadline(size - 1) } = setup;
    const deadline = performance.now() + deadlineMs;
    const divides = overlap && size > 1 && batch >= dividedTokens;
    this.#recorder = recorder;
    // Started before it is needed: it gets ready while links are opened.
    this.#communication = divides ? communication() : undefined;
    this.#links = openLinkSet("engine", listener, setup, deadlineMs);
    const group = { rank, size, links: this.#links, wire: openWire(setup.wire) };
    const inline = divides ? Math.min(batch, dividedTokens - 1) : batch;
    const groups = sumGroups(group, sumSizes(values, inline));
    this.#sums = groups.usual;
    this.#exact = groups.exact;
    this.#idle = new Group({ ...group, maxElements: 0, deadlineMs: idleDeadline });
    try {
      const largest = sumSizes(values, tokensOfLane(batch, 2));
      this.#communication?.open({ listener, setup, largest, deadlineMs: deadline - performance.now() });
      const measured = { ...group, maxElements: values.usual * batch, endsBy: deadline + measuringMs };
      this.reducer = this.#openReducer(setup, measured, values.usual);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
    this.#before = this.#sums.statistics();
    this.#sums.recorder = recorder;
    this.#exact.recorder = recorder;
    this.#idle.recorder = recorder;
  }

  /**
   * `auto` finds out first what it has to know of the links, which all ranks do together. What it learns over one set of
   * links is true of the other, between the same devices.
   */
  #openReducer(setup: LinkSetup, largest: Omit<GroupOptions, "deadlineMs">, embeddingLength: number): Reducer {
    const { collective } = setup;
    const tuning = collective === "auto" ? tuned(setup, largest) : undefined;
    const reductions = openReductions({ collective, tuning }, { usual: this.#sums, exact: this.#exact });
    const token = reductions.usual.collective.choiceFor?.(this.#sums.wire.bytes(embeddingLength));
    this.#network = tuning && token && { measurements: rounded(tuning.measurements), token };
    const inline = inlineReducer(reductions, this.#sums, this.#recorder);
    if (this.#communication === undefined) return inline;
    this.#communication.choose({ collective, tuning });
    return overlappingReducer(inline, this.#communication, this.#recorder);
  }

  /** Bytes that this rank sent to open and measure the links. */
  get openingBytes(): number {
    return this.#before.bytesSent;
  }

  /** What was found out, where the collective is chosen by it. */
  get network(): RankNetwork | undefined {
    return this.#network;
  }

  /** Descriptors of all connections: shutting them down wakes a thread that waits for one. */
  get sockets(): Socket[] {
    return [...[...this.#links.values()].map((link) => link.socket), ...(this.#communication?.sockets ?? [])];
  }

  /** What both threads have spent. */
  get statistics(): LinkStatistics {
    const own = addFigures(this.#sums.statistics(), this.#before, -1);
    return this.#communication === undefined ? own : addFigures(own, this.#communication.statistics);
  }

  /** Milliseconds of this thread in transfers, the opening included. */
  get wireMs(): number {
    return this.#sums.times.wireMs;
  }

  /** Milliseconds of this thread in ciphers, the opening included. */
  get cipherMs(): number {
    return this.#sums.cipherMs;
  }

  /** Milliseconds that this thread waited for other ranks, the opening included. */
  get waitMs(): number {
    return this.#sums.times.waitMs;
  }

  /** Tells all other ranks what is done next and, for a pass, what enters with its tokens. */
  announce(command: Int32Array, inputs: Float32Array): void {
    const started = this.#recorder.now();
    broadcast(this.#sums, 0, bytesOf(command));
    if (inputs.length > 0) broadcast(this.#sums, 0, bytesOf(inputs));
    this.#recorder.end(spanKind.broadcast, started, 0, inputs.byteLength);
  }

  /** Waits for what rank 0 does next. */
  receiveCommand(command: Int32Array): void {
    broadcast(this.#idle, 0, bytesOf(command));
  }

  /** Waits for what enters a pass that was announced. */
  receiveRows(inputs: Float32Array): void {
    const started = this.#recorder.now();
    broadcast(this.#sums, 0, bytesOf(inputs));
    this.#recorder.end(spanKind.broadcast, started, 0, inputs.byteLength);
  }

  /** Ends all connections: the other ranks learn that this one cannot go on. */
  cut(): void {
    for (const socket of this.sockets) shutdownSocket(socket);
  }

  /** Brings bytes of all ranks to one; see `gather`. */
  gather(gathering: Gathering): void {
    gather(this.#sums, gathering);
  }

  [Symbol.dispose](): void {
    this.#sums[Symbol.dispose]();
    this.#communication?.close();
  }
}

/** @param largest - the group of the largest sums there will be */
function tuned({ tuningDirectory, peers, wire, cipher }: LinkSetup, largest: Omit<GroupOptions, "deadlineMs">): Tuning {
  const maxElements = Math.min(largest.maxElements, probeElements(largest.wire));
  const group = new Group({ ...largest, maxElements, deadlineMs: sumDeadline });
  if (tuningDirectory === undefined) return tune(group);
  const hosts = peers.map(({ host }) => host);
  return tune(group, tuningFile(tuningDirectory, { hosts, wire, cipher, probes: fitting(group).length }));
}

function bytesOf({ buffer, byteOffset, byteLength }: Int32Array | Float32Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** To microseconds and whole bytes: the table of the largest cluster has to fit a message between threads. */
function rounded({ size, latencyMs, bytesPerMs }: LinkMeasurements): LinkMeasurements {
  const table = (values: LinkMeasurements["latencyMs"], factor: number) =>
    values.map((row) => row.map((value) => Math.round(value * factor) / factor));
  return { size, latencyMs: table(latencyMs, 1000), bytesPerMs: table(bytesPerMs, 1) };
}
