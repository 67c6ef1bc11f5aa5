import { createHash, randomBytes } from "node:crypto";
import { fasterCipher } from "../collective/cipher.ts";
import type { Engine } from "../engine/engine.ts";
import type { LinkSetup } from "../engine/links/rankLinks.ts";
import { StelliumError } from "../errors.ts";
import { log } from "../log.ts";
import type { ModelDescription } from "../model/describeModel.ts";
import type { RankShare } from "../model/split.ts";
import { rankDescription, slicedModel } from "../plan/rankDescription.ts";
import { planShares, type SharePlan } from "../plan/shares.ts";
import { unlessHomeless } from "../system/homeDirectory.ts";
import type { RankTrace } from "../trace/events.ts";
import type { ModelSource } from "../weights/modelSource.ts";
import type { SharedReading } from "../weights/sharedReading.ts";
import { sliceName } from "../weights/sliceDirectory.ts";
import { type CutPlan, cutPlan } from "../weights/sliceLayout.ts";
import type { ClusterOptions, Entrance } from "./clusterOptions.ts";
import type { Traffic } from "./control/channel.ts";
import { listenForWorkers, type WorkerConnection, type WorkerListener } from "./control/server.ts";
import { Announcement } from "./discovery/announcement.ts";
import type { SharedEngineOptions } from "./engineOptions.ts";
import { DeviceRegister } from "./identity/deviceRegister.ts";
import { type LinkStyle, planLinks, tuningDirectory } from "./linkPlan.ts";
import { LocalWorkers } from "./localWorkers.ts";
import { Member, type RankPlace } from "./member.ts";
import { Mending } from "./mending.ts";
import { outlineOf, type RankPlan } from "./rankPlan.ts";
import { Seating } from "./seating.ts";
import type { StatusBoard } from "./status/board.ts";
import { threadsAmong } from "./threads.ts";
import { JoinToken } from "./token.ts";
import { version } from "./version.ts";

/** What a rank reports of itself. */
export interface RankReport {
  readonly rank: number;
  readonly host: string;
  /** The build of ggml's CPU kernels that computes there; null if there is only one. */
  readonly cpuVariant: string | null;
  readonly share: RankShare;
  readonly figures: Readonly<Record<string, number>>;
}

/** What a team is opened with. */
export interface TeamStart {
  readonly source: ModelSource;
  readonly reading: SharedReading;
  readonly description: ModelDescription;
  readonly options: ClusterOptions;
  /** Threads of each local worker; an equal share of the cores if absent. */
  readonly threads: number | undefined;
  /** Bytes that each local worker may take. */
  readonly memoryOfEach: number | undefined;
  readonly signal: AbortSignal | undefined;
  /** Told what happens to the workers. */
  readonly status?: StatusBoard | undefined;
}

/** What a team is made of. */
interface TeamParts extends TeamStart {
  readonly register: DeviceRegister;
  /** Relative, by rank. */
  readonly shares: readonly number[];
  readonly plan: SharePlan;
  readonly listener: WorkerListener;
  /** Where devices join from elsewhere. */
  readonly announcement: Announcement | undefined;
}

/** Between two attempts to fill all ranks. */
const mendPauseMs = 200;

/** The workers of a cluster, as their coordinator leads them. */
export class Team implements AsyncDisposable {
  readonly #parts: TeamParts;
  readonly #local: LocalWorkers | undefined;
  readonly #seating: Seating;
  readonly #session = randomBytes(16).toString("hex");
  readonly #members: (Member | undefined)[] = [];
  readonly #watched = new WeakSet<Member>();
  #hash = "";
  /** By rank. */
  #sliceNames: readonly string[] = [];
  #shared: SharedEngineOptions | undefined;
  /** From when all ranks have been linked for the first time. */
  #mending: Mending | undefined;
  #closing = false;

  /** Listens for workers and, where they are to be local, starts them. Throws `SHARES_INVALID`, `BAD_USAGE`. */
  static async open(start: TeamStart): Promise<Team> {
    const { description, options, signal } = start;
    const shares = options.shares ?? Array<number>(options.workers + 1).fill(1);
    if (shares.length !== options.workers + 1) {
      const reason = `there are ${options.workers + 1} devices and ${shares.length} shares`;
      throw new StelliumError("SHARES_INVALID", { reason });
    }
    const plan = planShares(description, shares, { head: options.head ?? "coordinator" });
    const register = await registerFor(options);
    const listen = options.listen ?? { host: options.local ? "127.0.0.1" : "0.0.0.0", port: 0 };
    const { onDevices } = options;
    const listener = await listenForWorkers({ ...listen, register, version, signal, onDevices });
    const announcement = options.local
      ? undefined
      : new Announcement({ host: listen.host, addresses: listener.addresses });
    return new Team({ ...start, register, shares, plan, listener, announcement });
  }

  private constructor(parts: TeamParts) {
    this.#parts = parts;
    this.#local = parts.options.local ? startLocalWorkers(parts) : undefined;
    this.#seating = new Seating(parts.listener, this.#local?.failed);
  }

  /** Who shares the model by which shares. */
  get plan(): SharePlan {
    return this.#parts.plan;
  }

  /** The workers by rank; undefined where nobody has the place. */
  get members(): readonly (Member | undefined)[] {
    return this.#members;
  }

  /** Where and how devices join. */
  get entrance(): Entrance {
    const { listener, register, options } = this.#parts;
    const { token } = register;
    const joined = this.#connections().filter(({ channel }) => channel.isOpen).length;
    return { address: listener.address, token, joined, wanted: options.workers, local: options.local };
  }

  /** Whether a lost rank is being filled again. */
  get mending(): boolean {
    return this.#mending?.underWay ?? false;
  }

  /** How all ranks are linked. */
  get style(): LinkStyle {
    const { wire = "f16", collective = "auto", insecure } = this.#parts.options;
    return { wire, collective, cipher: insecure ? "none" : fasterCipher() };
  }

  /** Gives each rank but this one to a worker, and waits until all have loaded their slices. */
  async place(shared: SharedEngineOptions): Promise<void> {
    this.#shared = shared;
    this.#hash = await this.#parts.source.hash();
    this.#sliceNames = this.plan.ranks.map((_, rank) => sliceName(this.#cut(rank).content));
    await this.#fill();
  }

  /** Links all ranks. From then on a rank that is lost is filled again. */
  async link(engine: Engine): Promise<void> {
    await this.#link(engine);
    this.#mending ??= new Mending(() => this.#mend(engine));
  }

  async #link(engine: Engine): Promise<void> {
    const members = this.#present();
    const attempt = new AbortController();
    try {
      const own = await this.#invite(members, engine, attempt.signal);
      for (const member of members) this.#watch(member, engine);
      await this.#open(own, members, engine, attempt.signal);
    } finally {
      attempt.abort();
    }
    // If one was lost before there were links to cut, nothing has cut them.
    await members.find(({ connection }) => !connection.channel.isOpen)?.lost;
  }

  /** Asks all workers to open links to each other and to this device. Returns the setup of this device's own links. */
  async #invite(members: readonly Member[], engine: Engine, attempt: AbortSignal): Promise<LinkSetup> {
    const own = { host: this.#listenHost(), port: await engine.listen(this.#listenHost()) };
    const addresses = [own, ...(await Promise.all(members.map((member) => member.listening(attempt))))];
    const [first, ...others] = planLinks(addresses, this.style);
    await Promise.all(members.map((member, i) => member.link(others[i]!)));
    const tuning = unlessHomeless(() => tuningDirectory(this.#parts.options.cacheDir));
    return { ...first!, tuningDirectory: tuning };
  }

  async #open(own: LinkSetup, members: readonly Member[], engine: Engine, attempt: AbortSignal): Promise<void> {
    const linking = engine.link(own);
    try {
      await Promise.all([linking, ...members.map((member) => member.linked(attempt))]);
    } finally {
      // The engine does one thing after the other: until its own attempt has ended, it can be told nothing else.
      await linking.catch(() => {});
    }
  }

  /** Waits until all ranks are there; see `Mending.ready`. */
  async ready(signal?: AbortSignal): Promise<boolean> {
    return (await this.#mending?.ready(signal)) ?? true;
  }

  /** Runs a step of all ranks, which have been linked; see `Mending.guard`. */
  async guard<T>(step: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    return await this.#mending!.guard(step, (error) => this.#lossBy(error), signal);
  }

  /** Bytes of the control channels to the workers that are there. */
  get traffic(): Traffic {
    const channels = this.#present().map(({ connection }) => connection.channel.traffic);
    const sum = (of: keyof Traffic) => channels.reduce((total, traffic) => total + traffic[of], 0);
    return { sent: sum("sent"), received: sum("received") };
  }

  /** What the workers report of themselves: those that take steps, since others do not expect to be asked. */
  reports(): Promise<RankReport[]> {
    const ready = this.#present().filter(({ state }) => state === "ready");
    return Promise.all(
      ready.map(async (member) => ({
        rank: member.rank,
        host: member.connection.hello.host,
        cpuVariant: member.connection.hello.cpuVariant,
        share: this.#parts.plan.ranks[member.rank]!,
        figures: await member.statistics(),
      })),
    );
  }

  /** What the workers have recorded. */
  traces(): Promise<RankTrace[]> {
    return Promise.all(this.#present().map((member) => member.trace()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing = true;
    await this.#parts.announcement?.[Symbol.asyncDispose]();
    await this.#parts.listener.close();
    await Promise.all(this.#connections().map(({ channel }) => channel.close("the coordinator stopped")));
    await this.#local?.[Symbol.asyncDispose]();
  }

  /** A worker that is gone without its connections being closed would keep this rank waiting. */
  #watch(member: Member, engine: Engine): void {
    if (this.#watched.has(member)) return;
    this.#watched.add(member);
    void member.gone.then(({ reason }) => {
      engine.cutLinks();
      if (!this.#closing) this.#mending?.lost(new StelliumError("WORKER_LOST", { device: member.name, reason }));
    });
  }

  /** Workers that have a rank, and those that wait for one. */
  #connections(): WorkerConnection[] {
    return [...this.#present().map(({ connection }) => connection), ...this.#seating.waiting];
  }

  #present(): Member[] {
    return this.#members.filter((member) => member !== undefined);
  }

  /** Waits for workers until every rank has one, and each has its slice in memory. */
  async #fill(): Promise<void> {
    const seats = this.#seating.fill(
      () => this.#free(),
      () => this.#announce(),
    );
    for await (const [rank, connection] of seats) {
      const member = await Member.place(connection, this.#placeOf(rank));
      this.#members[rank] = member;
      this.#tell(member);
      // Its time starts now, not when the last rank is given away.
      member.loaded().catch(() => {});
    }
    this.#announce();
    this.#parts.reading.open();
    await Promise.all(this.#present().map((member) => member.loaded()));
  }

  /** Ranks that nobody has, and the names of their slices. */
  #free(): Map<number, string> {
    const names = this.#sliceNames.entries();
    return new Map([...names].filter(([rank]) => rank > 0 && !this.#members[rank]?.connection.channel.isOpen));
  }

  #announce(): void {
    this.#parts.options.onJoin?.(this.entrance);
    this.#parts.status?.changed();
  }

  /** Tells that a worker has its place, and later that it is gone. */
  #tell(member: Member): void {
    const { status } = this.#parts;
    status?.note("joined", `${member.name} has joined`, member.name);
    void member.connection.channel.ended.then(({ reason }) => {
      if (!this.#closing) status?.note("lost", `${member.name} was lost: ${reason}`, member.name);
    });
  }

  #placeOf(rank: number): RankPlace {
    const { shares, plan: sharePlan, source, reading } = this.#parts;
    const model = outlineOf(source.model, this.#hash);
    const sharing = { relative: [...shares], head: sharePlan.head };
    const plan: RankPlan = { rank, shares: sharing, model, engine: { ...this.#shared! } };
    const { content, blocks } = this.#cut(rank);
    const share = createHash("sha256").update(JSON.stringify(content.share)).digest("hex");
    return { size: shares.length, session: this.#session, plan, share, reading, blocks };
  }

  /** What a rank's slice consists of, and is cut from. Only devices that store it want the model's name in it. */
  #cut(rank: number): CutPlan {
    const { description, plan } = this.#parts;
    return cutPlan(slicedModel(rankDescription(description, plan, rank)), { hash: this.#hash, name: "" });
  }

  /**
   * Has lost ranks filled again, and all ranks linked anew. Where one fails meanwhile it is let go, and the next device
   * takes its place. Throws `WORKER_LOST` where that cannot come: a process of this machine that has ended.
   */
  async #mend(engine: Engine): Promise<void> {
    await this.#fillAndLink(engine);
    this.#parts.status?.note("mended", "all devices are there again", null);
  }

  async #fillAndLink(engine: Engine): Promise<void> {
    for (;;) {
      engine.cutLinks();
      try {
        await this.#fill();
        return await this.#link(engine);
      } catch (error) {
        if (!isLoss(error) || this.#local?.complete === false) throw error;
        log("warn", error.message);
        if (error.code === "LINK_LOST")
          this.#members[Number(error.values["peer"])]?.drop("its links could not be opened");
        await new Promise((resolve) => setTimeout(resolve, mendPauseMs));
      }
    }
  }

  /** What a step failed by, which was told only of a link. */
  async #lossBy(error: StelliumError): Promise<StelliumError> {
    const device = await this.#whoIsLost(Number(error.values["peer"]));
    return new StelliumError("WORKER_LOST", { device, reason: String(error.values["reason"]) }, { cause: error });
  }

  /** The name of the worker that is gone. Its channel tells a moment later than its links. */
  async #whoIsLost(peer: number): Promise<string> {
    const moment = new Promise<void>((resolve) => setTimeout(resolve, 200));
    await Promise.race([moment, ...this.#present().map((member) => member.gone)]);
    const closed = this.#present().find(({ connection }) => !connection.channel.isOpen);
    return (closed ?? this.#members[peer])?.name ?? `of rank ${peer}`;
  }

  /** The address at which workers reach this device, which they connected to. */
  #listenHost(): string {
    const { options, listener } = this.#parts;
    return options.local ? "127.0.0.1" : listener.addresses[0]!.host;
  }
}

function isLoss(error: unknown): error is StelliumError {
  return error instanceof StelliumError && (error.code === "LINK_LOST" || error.code === "WORKER_LOST");
}

/** Processes of this machine join by a token of this run, or the one that was given. */
async function registerFor({ local, token, cacheDir }: ClusterOptions): Promise<DeviceRegister> {
  if (local) return DeviceRegister.unkept(token ?? JoinToken.generate());
  return await DeviceRegister.open({ cacheDir, token });
}

function startLocalWorkers({ options, shares, listener, register, threads, memoryOfEach }: TeamParts): LocalWorkers {
  const { workers, cacheDir, cacheSize, window, processes = new LocalWorkers(workers) } = options;
  const each = threads ?? threadsAmong(shares.length);
  const memory = memoryOfEach;
  processes.invite({ port: listener.port, token: register.token, threads: each, cacheDir, cacheSize, memory, window });
  return processes;
}
