import { hostname } from "node:os";
import { openWire } from "../collective/wire.ts";
import { describe } from "../engine/architectures/support.ts";
import { Engine, type StepRequest } from "../engine/engine.ts";
import { linkBytes } from "../engine/linkMemory.ts";
import type { CellMove } from "../engine/rankCommand.ts";
import { StelliumError } from "../errors.ts";
import { type MemoryPlan, planMemory } from "../plan/memory.ts";
import { type RankDescription, rankDescription } from "../plan/rankDescription.ts";
import { planShares } from "../plan/shares.ts";
import type { RankTrace } from "../trace/events.ts";
import type { GgufModel } from "../weights/gguf/model.ts";
import type { Traffic } from "./control/channel.ts";
import {
  planEngine,
  plannedKvBytes,
  planShared,
  type SharedEngineOptions,
  type WantedEngineOptions,
} from "./engineOptions.ts";
import { Lingering } from "./lingering.ts";
import { type ClusterOptions, type RankReport, Team } from "./team.ts";
import { threadsAmong } from "./threads.ts";

/** How a model is to be run; everything has a default. */
export interface CoordinatorOptions extends WantedEngineOptions {
  readonly threads?: number | undefined;
  readonly cluster?: ClusterOptions | undefined;
  /** Told the bytes of weights read so far and in all. */
  readonly onProgress?: (bytes: number, total: number) => void;
  readonly signal?: AbortSignal | undefined;
  /** Has all threads of all ranks record what they do, and is told in the end, before anything is closed. */
  readonly onTrace?: ((ranks: readonly RankTrace[]) => void) | undefined;
}

/** After an interruption workers stay connected for so long, to say what they have recorded. */
const lingerMs = 5000;

/** Rank 0: the device that has the model file. Plans, owns the engine that computes, and leads the other ranks, if any. */
export class Coordinator implements AsyncDisposable {
  readonly engine: Engine;
  readonly memory: MemoryPlan;
  /** What this rank has of the model. */
  readonly description: RankDescription;
  readonly #team: Team | undefined;
  readonly #onTrace: CoordinatorOptions["onTrace"];

  /**
   * Plans, waits for the workers, and loads. Throws `MODEL_UNSUPPORTED`, `SHARES_INVALID` or `OUT_OF_MEMORY` before
   * anything is loaded, `FILE_UNREADABLE`, `WORKER_LOST`, `ABORTED`.
   */
  static async start(model: GgufModel, options: CoordinatorOptions): Promise<Coordinator> {
    const whole = await describe(model);
    const { cluster, threads, onTrace } = options;
    const connection = new Lingering(options.signal, onTrace === undefined ? 0 : lingerMs);
    const { signal } = connection;
    const team = cluster && (await Team.open({ model, description: whole, options: cluster, threads, signal }));
    try {
      const shares = planShares(whole, team?.shares ?? [1]);
      const description = rankDescription(whole, shares, 0);
      const kvHeads = Math.max(...shares.ranks.map((share) => share.kvHeads.count));
      const shared = planShared(description, { ...options, trace: onTrace !== undefined }, kvHeads);
      const memory = planDevice(description, shared, cluster);
      const placed = team?.place(shared);
      const engine = await startEngine(description, shared, memory, options);
      await placed;
      await team?.link(engine);
      connection.linger();
      return new Coordinator(engine, description, memory, team, onTrace);
    } catch (error) {
      await team?.[Symbol.asyncDispose]();
      throw error;
    }
  }

  private constructor(
    engine: Engine,
    description: RankDescription,
    memory: MemoryPlan,
    team: Team | undefined,
    onTrace: CoordinatorOptions["onTrace"],
  ) {
    this.engine = engine;
    this.description = description;
    this.memory = memory;
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

  #ownTrace(): RankTrace {
    return { rank: 0, name: hostname(), aheadBy: 0, ...this.engine.trace };
  }

  async #guard<T>(action: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    return await (this.#team === undefined ? action() : this.#team.guard(this.engine, action, signal));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#onTrace?.([this.#ownTrace(), ...((await this.#team?.traces()) ?? [])]);
    await this.engine[Symbol.asyncDispose]();
    await this.#team?.[Symbol.asyncDispose]();
  }
}

function startEngine(
  description: RankDescription,
  shared: SharedEngineOptions,
  memory: MemoryPlan,
  { threads, cluster, onProgress, signal }: CoordinatorOptions,
): Promise<Engine> {
  const among = cluster?.local ? threadsAmong(cluster.workers + 1) : undefined;
  const options = planEngine(description, shared, threads ?? among);
  return Engine.start({ description, options, signal, onProgress: (bytes) => onProgress?.(bytes, memory.weights) });
}

/** Plans this device's memory and refuses what cannot fit, with both numbers. */
function planDevice(description: RankDescription, shared: SharedEngineOptions, cluster?: ClusterOptions): MemoryPlan {
  const demand = { ...shared, outputs: shared.slots, linkBytes: plannedLinkBytes(description, shared, cluster) };
  const plan = planMemory(description, demand, plannedKvBytes(description, shared));
  const available = process.availableMemory();
  if (plan.total <= available) return plan;
  const what = `${description.files[0]} with a context of ${shared.context} tokens`;
  throw new StelliumError("OUT_OF_MEMORY", { what, needed: gigabytes(plan.total), available: gigabytes(available) });
}

function plannedLinkBytes(
  { hyperparameters }: RankDescription,
  { batch }: SharedEngineOptions,
  cluster: ClusterOptions | undefined,
): number {
  if (cluster === undefined) return 0;
  return linkBytes(cluster.workers + 1, openWire(cluster.wire ?? "f16"), hyperparameters.embeddingLength, batch);
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(2)} GB`;
}
