import { measuringDeadline, openDeadline } from "../engine/links/linkSets.ts";
import type { LinkSetup } from "../engine/links/rankLinks.ts";
import { reasonOf, StelliumError } from "../errors.ts";
import type { RankTrace } from "../trace/events.ts";
import type { BlockSource } from "../weights/obtainSlice.ts";
import type { SharedReading } from "../weights/sharedReading.ts";
import type { TensorSlice } from "../weights/slice.ts";
import type { CoordinatorMessage, WorkerMessage } from "./control/messages.ts";
import type { WorkerConnection } from "./control/server.ts";
import { Mailbox, type MessageStream } from "./mailbox.ts";
import { Milestones } from "./milestones.ts";
import { orAborted } from "./orAborted.ts";
import type { RankPlan } from "./rankPlan.ts";
import { plainBytesOf, sendSlice } from "./sliceTransfer.ts";
import type { DeviceState } from "./status/schema.ts";
import { clockAhead, receiveTrace, type TracePeer } from "./traceTransfer.ts";

/** What a worker needs to be given its place. */
export interface RankPlace {
  readonly size: number;
  readonly session: string;
  readonly plan: RankPlan;
  /** Identifies the slice: in hex. */
  readonly share: string;
  /** Reads the model's files. */
  readonly reading: SharedReading;
  /** The parts of tensors in each block of the slice. */
  readonly blocks: readonly (readonly TensorSlice[])[];
}

type Ready = Extract<WorkerMessage, { type: "ready" }>;

/** Time for a worker to open a socket, or to report its figures. */
const patienceMs = 30_000;
/** Time to report its links, after the time in which they have to be open and measured. */
const reportMs = 2_000;

/** For as long a worker may take to load its slice, and so much longer for each byte of it: see `loaded`. */
const loadPatienceMs = 600_000;
const leastBytesPerMs = 100;
/** A slice is asked for once, and once more for what turns out to be damaged. */
const mostSliceRequests = 2;

/** A worker that has its place in the cluster, as the coordinator sees it. */
export class Member {
  readonly rank: number;
  readonly name: string;
  readonly connection: WorkerConnection;
  /** Rejects when the worker fails or is lost. */
  readonly lost: Promise<never>;
  /** Resolves when its channel has ended. */
  readonly gone: WorkerConnection["channel"]["ended"];
  readonly #mailbox: Mailbox<WorkerMessage>;
  readonly #milestones = new Milestones<Ready>();
  #phase: "placed" | "loaded" | "linked" = "placed";
  #loaded: Promise<void> | undefined;
  #peers = 0;
  /** Milliseconds for its slice, and how many of those that have passed were this device's own. */
  readonly #loadMs: number;
  readonly #reading: Stopwatch = new Stopwatch();
  /** Of the slice that is being sent: its bytes, and what the channel had sent before. */
  #sending: { readonly total: number; readonly before: number } | undefined;

  /** Gives a worker its place. `loaded` tells when it has its slice in memory. */
  static async place(connection: WorkerConnection, place: RankPlace): Promise<Member> {
    const { size, session, plan } = place;
    const { rank, shares, engine, model } = plan;
    const bytes = place.blocks.reduce((sum, block) => sum + plainBytesOf(block), 0);
    const member = new Member(connection, rank, loadPatienceMs + bytes / leastBytesPerMs);
    const slice = { model: model.hash, share: place.share };
    const listen = { host: connection.remoteAddress, port: 0 };
    await member.#say({ type: "welcome", rank, size, session });
    await member.#say({ type: "plan", rank, size, slice, description: model, shares, engine, listen });
    member.#serveSlice(place).catch((error: unknown) => connection.channel.close(reasonOf(error)));
    return member;
  }

  private constructor(connection: WorkerConnection, rank: number, loadMs: number) {
    this.#loadMs = loadMs;
    const messages = connection.channel as unknown as MessageStream<WorkerMessage>;
    this.connection = connection;
    this.rank = rank;
    this.name = connection.hello.name;
    this.#mailbox = new Mailbox(messages, () => this.#gone("it left"));
    this.gone = connection.channel.ended;
    this.lost = this.#failure();
    this.lost.catch(() => {});
    this.#readMilestones().catch(() => {});
  }

  /** How far it has come. */
  get state(): DeviceState {
    if (!this.connection.channel.isOpen) return "lost";
    if (this.#sending !== undefined) return "receiving";
    return this.#phase === "linked" ? "ready" : "loading";
  }

  /** How much of its slice it has been sent, while that goes on; headers count, too. */
  get transfer(): { bytes: number; total: number } | undefined {
    if (this.#sending === undefined) return undefined;
    const { total, before } = this.#sending;
    return { bytes: Math.min(total, this.connection.channel.traffic.sent - before), total };
  }

  /**
   * Resolves when its slice is in memory. It has 10 minutes for that, and a second for every 100 kB of the slice, not
   * counting the time in which this device reads for it. Then it is let go: rejects with `WORKER_LOST`.
   */
  loaded(): Promise<void> {
    this.#loaded ??= this.#load();
    return this.#loaded;
  }

  async #load(): Promise<void> {
    const started = performance.now();
    const left = () => this.#loadMs - (performance.now() - started - this.#reading.ms);
    const late = `it had not loaded its slice after ${Math.round(this.#loadMs / 60_000)} min`;
    await this.#before(this.#milestones.of("loaded"), left, late);
    this.#phase = "loaded";
  }

  /**
   * Where it listens for links: again after each time that links were lost. It is let go if it does not say so in 30 s,
   * unless the attempt to link all ranks has ended before.
   */
  async listening(attempt: AbortSignal): Promise<{ host: string; port: number }> {
    const { dataPort: port } = await this.#soon(this.#milestones.of("listening"), patienceMs, attempt);
    return { host: this.connection.remoteAddress, port };
  }

  /** Has it open its links. */
  async link(setup: LinkSetup): Promise<void> {
    const peers = setup.peers.map((peer) => ({ ...peer }));
    this.#milestones.forget("listening");
    this.#milestones.forget("linked");
    this.#phase = "loaded";
    this.#peers = peers.length;
    await this.#say({ type: "links", ...setup, peers });
  }

  /** Resolves when its links are open. It is let go if they take too long, unless the attempt has ended before. */
  async linked(attempt: AbortSignal): Promise<void> {
    const longestMs = openDeadline + measuringDeadline(this.#peers) + reportMs;
    await this.#soon(this.#milestones.of("linked"), longestMs, attempt);
    this.#phase = "linked";
  }

  /** Lets it go, so that its place can be given to another device. */
  drop(reason: string): void {
    void this.connection.channel.close(reason);
  }

  /** What it has counted. It is let go if it does not say so in 30 s. */
  async statistics(): Promise<Record<string, number>> {
    await this.connection.channel.send({ type: "stats-request" });
    return (await this.#soon(this.#mailbox.take("stats"))).figures;
  }

  /** What its last step was made of; see `Engine.profile`. It is let go if it does not say so in 30 s. */
  async profile(): Promise<readonly number[]> {
    await this.connection.channel.send({ type: "profile-request" });
    return (await this.#soon(this.#mailbox.take("profile"))).times;
  }

  /** What it has recorded; nothing, and why, where it does not answer. */
  async trace(): Promise<RankTrace> {
    const peer: TracePeer = {
      send: (message) => this.connection.channel.send(message),
      take: (type) => this.#mailbox.take(type),
    };
    const own = { rank: this.rank, name: this.name };
    try {
      const aheadBy = await clockAhead(peer);
      return { ...own, aheadBy, ...(await receiveTrace(peer, aheadBy)) };
    } catch (error) {
      return { ...own, aheadBy: 0, events: [], dropped: 0, missing: reasonOf(error) };
    }
  }

  /** Rejects with `WORKER_LOST`. */
  async #say(message: CoordinatorMessage): Promise<void> {
    await this.connection.channel.send(message).catch((error: unknown) => {
      throw this.#lossOf(error);
    });
  }

  /** Waits for what a sound worker does at once. One that does not is let go. */
  #soon<T>(milestone: Promise<T>, longestMs = patienceMs, attempt?: AbortSignal): Promise<T> {
    const deadline = performance.now() + longestMs;
    return this.#before(milestone, () => deadline - performance.now(), "it did not do as it was told in time", attempt);
  }

  /**
   * Waits for as long as there is time left. A worker that takes longer is let go. Rejects with `ABORTED` when `attempt`
   * ends, which is not held against the worker.
   */
  async #before<T>(milestone: Promise<T>, leftMs: () => number, reason: string, attempt?: AbortSignal): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      const look = () => {
        const left = Math.ceil(leftMs());
        if (left <= 0) reject(this.#gone(reason));
        else timer = setTimeout(look, Math.min(left, longestTimerMs));
      };
      look();
    });
    try {
      return await orAborted(Promise.race([milestone, this.lost, late]), attempt);
    } catch (error) {
      if (!attempt?.aborted) this.drop(reasonOf(error));
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Ends when the channel does. */
  async #readMilestones(): Promise<never> {
    for (;;) this.#milestones.reach(await this.#mailbox.take("ready"));
  }

  async #serveSlice({ reading, blocks }: RankPlace): Promise<void> {
    for (let requests = 0; ; requests++) {
      const request = await this.#mailbox.take("slice-request").catch(() => undefined);
      if (request === undefined) return;
      if (requests === mostSliceRequests) return void this.drop("it asks for its slice again and again");
      const total = plainBytesOf(request.blocks.flatMap((index) => blocks[index] ?? []));
      this.#sending = { total, before: this.connection.channel.traffic.sent };
      using reader = reading.join(blocks);
      await sendSlice(this.connection.channel, this.#reading.timing(reader), blocks, request.blocks);
      this.#sending = undefined;
    }
  }

  async #failure(): Promise<never> {
    const failed = this.#mailbox.take("failed").catch((error: unknown) => {
      throw this.#lossOf(error);
    });
    const { code, message } = await failed;
    this.drop("it cannot take its place");
    throw this.#gone(`${message} (${code})`);
  }

  /** Whatever ends its channel, it is lost. */
  #lossOf(error: unknown): StelliumError {
    if (error instanceof StelliumError && error.code === "WORKER_LOST") return error;
    return this.#gone(reasonOf(error));
  }

  #gone(reason: string): StelliumError {
    return new StelliumError("WORKER_LOST", { device: this.name, reason });
  }
}

/** What `setTimeout` takes at most. */
const longestTimerMs = 2 ** 31 - 1;

/** Adds up how long blocks are waited for. */
class Stopwatch {
  #passed = 0;
  #since: number | undefined;

  get ms(): number {
    return this.#passed + (this.#since === undefined ? 0 : performance.now() - this.#since);
  }

  /** The same blocks, each piece of which is timed. */
  timing(source: BlockSource): BlockSource {
    return { begin: (blocks) => source.begin(blocks), block: (index) => this.#timed(source.block(index)) };
  }

  async *#timed(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    this.#since = performance.now();
    for await (const piece of pieces) {
      this.#stop();
      yield piece;
      this.#since = performance.now();
    }
    this.#stop();
  }

  #stop(): void {
    this.#passed = this.ms;
    this.#since = undefined;
  }
}
