import { hostname } from "node:os";
import type { CellPlace } from "../engine/cellFile.ts";
import { Engine } from "../engine/engine.ts";
import type { CellBringing, CellKeeping } from "../engine/protocol.ts";
import type { CellMove } from "../engine/rankCommand.ts";
import type { StepRequest } from "../engine/stepRequest.ts";
import { StelliumError } from "../errors.ts";
import { log } from "../log.ts";
import type { ModelDescription } from "../model/describeModel.ts";
import { describe } from "../model/support.ts";
import { returnMemory } from "../native/memory.ts";
import { type DeviceMemory, loadedBytes, streamsWeights } from "../plan/deviceMemory.ts";
import { weightBytes } from "../plan/memory.ts";
import { type RankDescription, rankDescription } from "../plan/rankDescription.ts";
import { planShares, type SharePlan } from "../plan/shares.ts";
import type { RankTrace } from "../trace/events.ts";
import type { ModelSource } from "../weights/modelSource.ts";
import { SharedReading } from "../weights/sharedReading.ts";
import { closeCache } from "../weights/sliceDirectory.ts";
import type { ClusterOptions } from "./clusterOptions.ts";
import type { Traffic } from "./control/channel.ts";
import { batchUnderCap, deviceMemory } from "./deviceMemory.ts";
import { deviceSlice, repaired } from "./deviceSlice.ts";
import { planEngine, planShared, type SharedEngineOptions, type WantedEngineOptions } from "./engineOptions.ts";
import { Lingering } from "./lingering.ts";
import { demandFit, type MemoryCap, mayBeCached, memoryCap } from "./memoryCap.ts";
import { type OwnDemand, type OwnWeights, type OwnWeightsOptions, ownWeights } from "./ownWeights.ts";
import type { StatusBoard } from "./status/board.ts";
import { type RankReport, Team } from "./team.ts";
import { chooseThreads, type ThreadChoice, threadsWarning } from "./threads.ts";
import { ThrottleWatch } from "./throttleWatch.ts";

/** How a model is to be run; everything has a default. */
export interface CoordinatorOptions extends WantedEngineOptions, OwnWeightsOptions {
  readonly threads?: number | undefined;
  readonly cluster?: ClusterOptions | undefined;
  /** Told what there is to see, and what happens. */
  readonly status?: StatusBoard | undefined;
  /**
   * Bytes that this process may take in all, and each local worker, within the control group's limit; what is free, less a
   * margin, if absent.
   */
  readonly memory?: number | undefined;
  /** Bytes of it for what the process does besides, such as serving; none if absent. */
  readonly hostBytes?: number | undefined;
  /** How many blocks the window holds where weights are streamed; see `planWindow`. */
  readonly window?: number | undefined;
  /** Where the embedding is, of a remote model: paths in place of its files'. */
  readonly files?: readonly string[] | undefined;
  /** Called before anything is loaded. */
  readonly onPlan?: (memory: DeviceMemory, cap: MemoryCap, threads: ThreadChoice) => void;
  /** Told the bytes of weights read so far and in all. */
  readonly onProgress?: (bytes: number, total: number) => void;
  readonly signal?: AbortSignal | undefined;
  /** File for a routing record, as returned by `outputPath`; no record if absent. */
  readonly recordRouting?: string | undefined;
  /** Has all threads of all ranks record what they do, and is told in the end, before anything is closed. */
  readonly onTrace?: ((ranks: readonly RankTrace[]) => void) | undefined;
}

/** After an interruption workers stay connected for so long, to say what they have recorded. */
const lingerMs = 5000;

/** Rank 0: the device that has the model file. Plans, owns the engine that computes, and leads the other ranks, if any. */
export class Coordinator implements AsyncDisposable {
  readonly engine: Engine;
  readonly memory: DeviceMemory;
  /** What this process may take. */
  readonly cap: MemoryCap;
  /** Number of compute threads here, and the reason for it. */
  readonly threads: ThreadChoice;
  /** What this rank has of the model. */
  readonly description: RankDescription;
  readonly #slice: OwnWeights["hold"];
  readonly #team: Team | undefined;
  readonly #onTrace: CoordinatorOptions["onTrace"];
  readonly #throttling: ThrottleWatch;

  /**
   * Plans, waits for the workers, and loads. Throws `MODEL_UNSUPPORTED`, `SHARES_INVALID` or `OUT_OF_MEMORY` before
   * anything is loaded, `FILE_UNREADABLE`, `WORKER_LOST`, `ABORTED`.
   */
  static async start(source: ModelSource, options: CoordinatorOptions): Promise<Coordinator> {
    const whole = describe(source.model);
    if (options.recordRouting !== undefined) demandChoices(whole);
    if (whole.leftOut > 0) log("info", `${whole.leftOut} tensors that do not touch text are left out`);
    const { cluster, threads, onTrace, status } = options;
    const connection = new Lingering(options.signal, onTrace === undefined ? 0 : lingerMs);
    const { signal } = connection;
    const ranks = (cluster?.workers ?? 0) + 1;
    const cap = memoryCap(options.memory, cluster?.local ? ranks : 1);
    const cacheDir = cluster?.cacheDir ?? options.cacheDir;
    closeCache(cacheDir);
    const memoryOfEach = cluster?.local ? cap.bytes : undefined;
    const files = await source.files(mayBeCached(cap));
    const reading = new SharedReading(files, { readers: ranks, shared: source.remote });
    const start = { source, reading, description: whole, threads, memoryOfEach, signal, status };
    const team = cluster && (await Team.open({ ...start, options: cluster }));
    let engine: Engine | undefined;
    let prepared: OwnWeights | undefined;
    try {
      const shares = team?.plan ?? planShares(whole, [1]);
      status?.plan({ model: source.model, description: whole, shares, team });
      const description = ownDescription(whole, shares, options);
      const plain = demandOf(description, cap, options);
      // Asking for the layout of a tensor takes address space for it: what fits in no layout is refused before.
      planFitting(plain, options);
      const demand = { ...plain, rooms: deviceSlice(description, unnamed).rooms };
      const { shared, planned } = planFitting(demand, options);
      const choice = threadsOf(description, options);
      options.onPlan?.(planned, cap, choice);
      const storing = { ...options, cacheDir, cacheSize: cluster?.cacheSize ?? options.cacheSize };
      const weights = (suspect = false) => ownWeights({ source, reading }, demand, shared, storing, suspect);
      const place = () => placing(team, shared, reading);
      // What is fetched, is fetched once, for all slices at the same time. From a file, cutting, serving the workers'
      // slices and loading take memory each: under a cap, one after the other.
      const early = source.remote ? place() : undefined;
      prepared = await weights();
      const placed = early ?? place();
      if (cap.from !== "free") await placed;
      returnMemory();
      engine = await repaired(async (suspect) => {
        if (suspect) await prepared?.hold?.[Symbol.asyncDispose]();
        const own = suspect ? await weights(suspect) : prepared!;
        prepared = own;
        return await startEngine(description, shared, own, choice.threads, options);
      });
      await placed;
      await team?.link(engine);
      connection.linger();
      status?.ready({ engine, kvBytes: prepared.memory.kvBytes, capBytes: cap.bytes });
      return new Coordinator(engine, description, prepared, cap, choice, team, onTrace);
    } catch (error) {
      await engine?.[Symbol.asyncDispose]();
      await prepared?.hold?.[Symbol.asyncDispose]();
      await team?.[Symbol.asyncDispose]();
      throw error;
    }
  }

  private constructor(
    engine: Engine,
    description: RankDescription,
    weights: OwnWeights,
    cap: MemoryCap,
    threads: ThreadChoice,
    team: Team | undefined,
    onTrace: CoordinatorOptions["onTrace"],
  ) {
    this.cap = cap;
    this.threads = threads;
    this.#throttling = new ThrottleWatch(threads);
    this.engine = engine;
    this.description = description;
    this.memory = weights.memory;
    this.#slice = weights.hold;
    this.#team = team;
    this.#onTrace = onTrace;
  }

  /** Tokens a sequence may have. */
  get context(): number {
    return this.engine.options.context;
  }

  /** Most tokens of one step. */
  get batch(): number {
    return this.engine.options.batch;
  }

  /** Sequences side by side. */
  get slots(): number {
    return this.engine.options.slots ?? 1;
  }

  /** Cells that copies of slots beside the KV cache may have together. */
  get storedCells(): number {
    return this.engine.options.storedCells ?? 0;
  }

  /**
   * Resolves when no lost worker's place is being filled. Returns false where one was since the last step: the KV cache is
   * empty then, and there are no copies. A step that is taken without asking fails once in that case.
   */
  async ready(signal?: AbortSignal): Promise<boolean> {
    return (await this.#team?.ready(signal)) ?? true;
  }

  /**
   * Takes a step on all ranks; see `Engine.step`. Where a worker is lost, rejects with `WORKER_LOST` naming it; steps are
   * possible again when it, or one in its place, has joined, and start from an empty KV cache and no copies.
   */
  async step(request: StepRequest | readonly StepRequest[], signal?: AbortSignal): Promise<Float32Array> {
    return await this.#guard(() => this.engine.step(request, signal), signal);
  }

  /** Moves cells of the KV cache on all ranks; see `Engine.moveCells`. Fails as `step` does. */
  async moveCells(move: CellMove, signal?: AbortSignal): Promise<void> {
    await this.#guard(() => this.engine.moveCells(move), signal);
  }

  /** Writes copies of this rank's cells to a file; see `Engine.keepCells`. */
  keepCells(keeping: CellKeeping): Promise<CellPlace[]> {
    return this.engine.keepCells(keeping);
  }

  /** Takes copies of this rank's cells from a file; see `Engine.bringCells`. */
  bringCells(bringing: CellBringing): Promise<number[]> {
    return this.engine.bringCells(bringing);
  }

  /** Bytes of the control channels, but for their encryption: slices that were sent, and plans and messages. */
  get controlTraffic(): Traffic {
    return this.#team?.traffic ?? { sent: 0, received: 0 };
  }

  /** What the workers report of themselves, by rank from 1 on. */
  async workers(): Promise<RankReport[]> {
    return (await this.#team?.reports()) ?? [];
  }

  #ownTrace(): RankTrace {
    return { rank: 0, name: hostname(), aheadBy: 0, ...this.engine.trace };
  }

  async #guard<T>(action: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    return await (this.#team === undefined ? action() : this.#team.guard(action, signal));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#throttling[Symbol.dispose]();
    await this.engine[Symbol.asyncDispose]();
    // Behind the engine: what that had is free again.
    this.#onTrace?.([this.#ownTrace(), ...((await this.#team?.traces()) ?? [])]);
    await this.#team?.[Symbol.asyncDispose]();
    await this.#slice?.[Symbol.asyncDispose]();
  }
}

/** What rank 0 has of the model. Of one behind an URL, the embedding is read from the local files. */
function ownDescription(
  whole: ModelDescription,
  shares: SharePlan,
  { files, recordRouting }: CoordinatorOptions,
): RankDescription {
  const description = rankDescription(whole, shares, 0);
  if (recordRouting !== undefined) demandChoices(description);
  return { ...description, files: files ?? description.files };
}

/** Throws `BAD_USAGE` if this rank chooses no experts: it would have nothing to record. */
function demandChoices({ blocks }: ModelDescription | RankDescription): void {
  const mixtures = blocks.filter(({ kind }) => kind === "experts");
  if (mixtures.some((block) => !("empty" in block && block.empty))) return;
  const detail =
    mixtures.length === 0
      ? "the model has no experts whose use could be recorded"
      : "this device has no share of the experts, so that it cannot record their use";
  throw new StelliumError("BAD_USAGE", { detail });
}

/** Has all workers take their places; where one cannot, nobody reads on for it. It may fail before it is waited for. */
function placing(team: Team | undefined, shared: SharedEngineOptions, reading: SharedReading): Promise<void> {
  if (team === undefined) reading.open();
  const placed = team?.place(shared) ?? Promise.resolve();
  placed.catch((error: unknown) => reading.fail(error));
  return placed;
}

function demandOf(
  description: RankDescription,
  cap: MemoryCap,
  { cluster, window: windowBlocks, hostBytes }: CoordinatorOptions,
): OwnDemand {
  const ranks = (cluster?.workers ?? 0) + 1;
  return { description, cap, windowBlocks, hostBytes, ranks, wire: cluster?.wire ?? "f16" };
}

/** Plans what all ranks agree on, and this one's memory. Throws `OUT_OF_MEMORY`. */
function planFitting(demand: OwnDemand, options: CoordinatorOptions) {
  const { description, cap } = demand;
  const shared = sharedOptions(demand, options);
  const planned = deviceMemory(demand, shared);
  demandFit(planned, cap, `${description.files[0]} with a context of ${shared.context} tokens`);
  return { shared, planned };
}

/** Local devices, of which each may have little to compute, all have as many threads. */
function threadsOf(description: RankDescription, { threads: asked, cluster }: CoordinatorOptions): ThreadChoice {
  const choice = cluster?.local
    ? chooseThreads({ asked, weightBytes: Number.POSITIVE_INFINITY, processes: cluster.workers + 1 })
    : chooseThreads({ asked, weightBytes: weightBytes(description) });
  const warning = threadsWarning(choice);
  if (warning !== undefined) log("warn", warning);
  return choice;
}

/** Stands for the model where only the room that blocks take is of interest. */
const unnamed = { hash: "0".repeat(64), name: "" };

function sharedOptions(demand: OwnDemand, options: CoordinatorOptions): SharedEngineOptions {
  const shared = planShared(demand.description, { ...options, trace: options.onTrace !== undefined });
  return options.batch === undefined ? batchUnderCap(demand, shared) : shared;
}

function startEngine(
  description: RankDescription,
  shared: SharedEngineOptions,
  { origin, memory }: OwnWeights,
  threads: number,
  { onProgress, signal, recordRouting }: CoordinatorOptions,
): Promise<Engine> {
  const options = planEngine(shared, { threads, streaming: streamsWeights(memory), recordRouting });
  return Engine.start({
    description,
    options,
    origin,
    signal,
    onProgress: (bytes) => onProgress?.(bytes, loadedBytes(memory)),
  });
}
