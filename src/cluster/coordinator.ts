import { describe } from "../engine/architectures/support.ts";
import { Engine, type StepRequest } from "../engine/engine.ts";
import type { CellMove } from "../engine/rankCommand.ts";
import { returnMemory } from "../native/memory.ts";
import type { DeviceMemory } from "../plan/deviceMemory.ts";
import { type RankDescription, rankDescription } from "../plan/rankDescription.ts";
import { planShares, type SharePlan } from "../plan/shares.ts";
import type { GgufModel } from "../weights/gguf/model.ts";
import type { Traffic } from "./control/channel.ts";
import { batchUnderCap, deviceMemory } from "./deviceMemory.ts";
import { deviceSlice, repaired } from "./deviceSlice.ts";
import { planEngine, planShared, type SharedEngineOptions, type WantedEngineOptions } from "./engineOptions.ts";
import { demandFit, type MemoryCap, memoryCap } from "./memoryCap.ts";
import { type OwnDemand, type OwnWeights, type OwnWeightsOptions, ownWeights } from "./ownWeights.ts";
import { type ClusterOptions, type RankReport, Team } from "./team.ts";
import { threadsAmong } from "./threads.ts";

/** How a model is to be run; everything has a default. */
export interface CoordinatorOptions extends WantedEngineOptions, OwnWeightsOptions {
  readonly threads?: number | undefined;
  readonly cluster?: ClusterOptions | undefined;
  /** Bytes that this process may take in all, and each local worker; what is free less a margin if absent. */
  readonly memory?: number | undefined;
  /** How many blocks the window holds where weights are streamed; see `planWindow`. */
  readonly window?: number | undefined;
  /** Told, before anything is loaded, where the memory is to go. */
  readonly onPlan?: (memory: DeviceMemory, cap: MemoryCap) => void;
  /** Told the bytes of weights read so far and in all. */
  readonly onProgress?: (bytes: number, total: number) => void;
  readonly signal?: AbortSignal | undefined;
}

/** Rank 0: the device that has the model file. Plans, owns the engine that computes, and leads the other ranks, if any. */
export class Coordinator implements AsyncDisposable {
  readonly engine: Engine;
  readonly memory: DeviceMemory;
  /** What this process may take. */
  readonly cap: MemoryCap;
  /** What this rank has of the model. */
  readonly description: RankDescription;
  readonly #team: Team | undefined;

  /**
   * Plans, waits for the workers, and loads. Throws `MODEL_UNSUPPORTED`, `SHARES_INVALID` or `OUT_OF_MEMORY` before
   * anything is loaded, `FILE_UNREADABLE`, `WORKER_LOST`, `ABORTED`.
   */
  static async start(model: GgufModel, options: CoordinatorOptions): Promise<Coordinator> {
    const whole = await describe(model);
    const { cluster, threads, signal } = options;
    const cap = memoryCap(options.memory, cluster?.local ? cluster.workers + 1 : 1);
    const cacheDir = cluster?.cacheDir ?? options.cacheDir;
    const team =
      cluster && (await Team.open({ model, description: whole, ...teamOptions(cluster, cap), threads, signal }));
    try {
      const shares = planShares(whole, team?.shares ?? [1]);
      const description = rankDescription(whole, shares, 0);
      const demand = demandOf(description, cap, options);
      const shared = sharedOptions(demand, options, shares);
      const planned = deviceMemory(demand, shared);
      demandFit(planned, cap, `${description.files[0]} with a context of ${shared.context} tokens`);
      options.onPlan?.(planned, cap);
      const weights = () => ownWeights(model, demand, shared, { ...options, cacheDir });
      const prepared = await weights();
      const placed = team?.place(shared);
      placed?.catch(() => {});
      // Cutting, serving the workers' slices and loading take memory each: under a cap, one after the other.
      if (cap.from !== "free") await placed;
      returnMemory();
      const start = (own: OwnWeights) => startEngine(description, shared, own, options);
      const engine = await repaired(
        () => start(prepared),
        async () => start(await weights()),
      );
      await placed;
      await team?.link(engine);
      return new Coordinator(engine, description, prepared.memory, cap, team);
    } catch (error) {
      await team?.[Symbol.asyncDispose]();
      throw error;
    }
  }

  private constructor(
    engine: Engine,
    description: RankDescription,
    memory: DeviceMemory,
    cap: MemoryCap,
    team: Team | undefined,
  ) {
    this.cap = cap;
    this.engine = engine;
    this.description = description;
    this.memory = memory;
    this.#team = team;
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

  /** Bytes of the control channels, but for their encryption: slices that were sent, and plans and messages. */
  get controlTraffic(): Traffic {
    return this.#team?.traffic ?? { sent: 0, received: 0 };
  }

  /** What the workers report of themselves, by rank from 1 on. */
  async workers(): Promise<RankReport[]> {
    return (await this.#team?.reports()) ?? [];
  }

  async #guard<T>(action: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    return await (this.#team === undefined ? action() : this.#team.guard(this.engine, action, signal));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.engine[Symbol.asyncDispose]();
    await this.#team?.[Symbol.asyncDispose]();
  }
}

function teamOptions(options: ClusterOptions, cap: MemoryCap) {
  return { options, memoryOfEach: options.local ? cap.bytes : undefined, cached: cap.from === "free" };
}

function demandOf(
  description: RankDescription,
  cap: MemoryCap,
  { cluster, window: windowBlocks }: CoordinatorOptions,
): OwnDemand {
  const { rooms } = deviceSlice(description, unnamed);
  return { description, rooms, cap, windowBlocks, ranks: (cluster?.workers ?? 0) + 1, wire: cluster?.wire ?? "f16" };
}

/** Stands for the model where only the room that blocks take is of interest. */
const unnamed = { hash: "0".repeat(64), name: "" };

function sharedOptions(demand: OwnDemand, options: CoordinatorOptions, { ranks }: SharePlan): SharedEngineOptions {
  const kvHeads = Math.max(...ranks.map((share) => share.kvHeads.count));
  const shared = planShared(demand.description, options, kvHeads);
  return options.batch === undefined ? batchUnderCap(demand, shared) : shared;
}

function startEngine(
  description: RankDescription,
  shared: SharedEngineOptions,
  { origin, memory }: OwnWeights,
  { threads, cluster, onProgress, signal }: CoordinatorOptions,
): Promise<Engine> {
  const among = cluster?.local ? threadsAmong(cluster.workers + 1) : undefined;
  const options = planEngine(description, shared, threads ?? among);
  const { pinnedBytes } = memory.window;
  return Engine.start({
    description,
    options,
    origin,
    signal,
    onProgress: (bytes) => onProgress?.(bytes, pinnedBytes),
  });
}
