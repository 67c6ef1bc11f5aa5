import { describe } from "../engine/architectures/support.ts";
import { Engine, type StepRequest } from "../engine/engine.ts";
import type { WeightOrigin } from "../engine/protocol.ts";
import type { CellMove } from "../engine/rankCommand.ts";
import { StelliumError } from "../errors.ts";
import { type MemoryPlan, planMemory } from "../plan/memory.ts";
import { type RankDescription, rankDescription } from "../plan/rankDescription.ts";
import { planShares } from "../plan/shares.ts";
import type { ModelSource } from "../weights/modelSource.ts";
import { SharedReading } from "../weights/sharedReading.ts";
import type { Traffic } from "./control/channel.ts";
import {
  planEngine,
  plannedKvBytes,
  planShared,
  type SharedEngineOptions,
  type WantedEngineOptions,
} from "./engineOptions.ts";
import { obtainOwnSlice } from "./ownSlice.ts";
import { outlineOf } from "./rankPlan.ts";
import { type ClusterOptions, type RankReport, Team } from "./team.ts";
import { threadsAmong } from "./threads.ts";

/** How a model is to be run; everything has a default. */
export interface CoordinatorOptions extends WantedEngineOptions {
  readonly threads?: number | undefined;
  readonly cluster?: ClusterOptions | undefined;
  /** Where slices are kept. */
  readonly cacheDir?: string | undefined;
  /** Where the embedding is, of a remote model: paths in place of its files'. */
  readonly files?: readonly string[] | undefined;
  /** Told the bytes of weights read so far and in all. */
  readonly onProgress?: (bytes: number, total: number) => void;
  readonly signal?: AbortSignal | undefined;
}

/** Rank 0: the device that has the model file. Plans, owns the engine that computes, and leads the other ranks, if any. */
export class Coordinator implements AsyncDisposable {
  readonly engine: Engine;
  readonly memory: MemoryPlan;
  /** What this rank has of the model. */
  readonly description: RankDescription;
  readonly #team: Team | undefined;

  /**
   * Plans, waits for the workers, and loads. Throws `MODEL_UNSUPPORTED`, `SHARES_INVALID` or `OUT_OF_MEMORY` before
   * anything is loaded, `FILE_UNREADABLE`, `WORKER_LOST`, `ABORTED`.
   */
  static async start(source: ModelSource, options: CoordinatorOptions): Promise<Coordinator> {
    const whole = await describe(source.model);
    const { cluster, threads, signal } = options;
    const reading = new SharedReading(await source.files(), {
      readers: (cluster?.workers ?? 0) + 1,
      ...together(source),
    });
    const start = { source, reading, description: whole, threads, signal };
    const team = cluster && (await Team.open({ ...start, options: cluster }));
    let engine: Engine | undefined;
    try {
      const shares = team?.plan ?? planShares(whole, [1]);
      const ranked = rankDescription(whole, shares, 0);
      const description = { ...ranked, files: options.files ?? ranked.files };
      const kvHeads = Math.max(...shares.ranks.map((share) => share.kvHeads.count));
      const shared = planShared(description, options, kvHeads);
      const memory = planDevice(description, shared);
      const placed = team?.place(shared);
      // It may fail while the engine starts, which nobody interrupts for that.
      placed?.catch((error: unknown) => reading.fail(error));
      if (team === undefined || !source.remote) reading.open();
      const origin = source.remote ? await ownOrigin(source, reading, description, options) : undefined;
      engine = await startEngine(description, shared, memory, options, origin);
      await placed;
      await team?.link(engine);
      return new Coordinator(engine, description, memory, team);
    } catch (error) {
      await engine?.[Symbol.asyncDispose]();
      await team?.[Symbol.asyncDispose]();
      throw error;
    }
  }

  private constructor(engine: Engine, description: RankDescription, memory: MemoryPlan, team: Team | undefined) {
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

function startEngine(
  description: RankDescription,
  shared: SharedEngineOptions,
  memory: MemoryPlan,
  { threads, cluster, onProgress, signal }: CoordinatorOptions,
  origin: WeightOrigin | undefined,
): Promise<Engine> {
  const among = cluster?.local ? threadsAmong(cluster.workers + 1) : undefined;
  const options = planEngine(description, shared, threads ?? among);
  const loading = { description, options, signal, ...(origin && { origin }) };
  return Engine.start({ ...loading, onProgress: (bytes) => onProgress?.(bytes, memory.weights) });
}

/** Where rank 0 takes its weights from if the model is not on its disk: a slice, like all other ranks. */
async function ownOrigin(
  source: ModelSource,
  reading: SharedReading,
  description: RankDescription,
  { cacheDir, onProgress }: CoordinatorOptions,
): Promise<WeightOrigin> {
  const { hash, name } = outlineOf(source.model, await source.hash());
  return {
    kind: "slice",
    ...(await obtainOwnSlice(reading, { description, model: { hash, name }, cacheDir, onProgress })),
  };
}

/** Files on the disk may as well be read by each rank for itself: the system keeps what was read. */
function together({ remote }: ModelSource) {
  return remote ? {} : { grace: 0, patience: 0 };
}

/** Plans this device's memory and refuses what cannot fit, with both numbers. */
function planDevice(description: RankDescription, shared: SharedEngineOptions): MemoryPlan {
  const plan = planMemory(description, { ...shared, outputs: shared.slots }, plannedKvBytes(description, shared));
  const available = process.availableMemory();
  if (plan.total <= available) return plan;
  const what = `${description.files[0]} with a context of ${shared.context} tokens`;
  throw new StelliumError("OUT_OF_MEMORY", { what, needed: gigabytes(plan.total), available: gigabytes(available) });
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(2)} GB`;
}
