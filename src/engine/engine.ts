import { Worker } from "node:worker_threads";
import { StelliumError } from "../errors.ts";
import { blockName, sumsOf } from "../model/blocks/definitions.ts";
import { openGgml } from "../native/ggml.ts";
import { allocateNative, type NativeMemory } from "../native/memory.ts";
import { shutdownSocket } from "../native/sockets.ts";
import type { RankDescription } from "../plan/rankDescription.ts";
import { threadScript } from "../system/threadScript.ts";
import { readEvents, type TraceEvents } from "../trace/events.ts";
import { loadCounter } from "../weights/loader.ts";
import { beginReading } from "../weights/weightFile.ts";
import type { CellPlace } from "./cellFile.ts";
import { EngineCalls, engineFailure } from "./engineCalls.ts";
import { fewObjects } from "./links/communication.ts";
import type { LinkSetup, RankNetwork } from "./links/rankLinks.ts";
import {
  type CellBringing,
  type CellKeeping,
  command,
  type EngineMemory,
  type EngineOptions,
  type EngineReady,
  type EngineSetup,
  engineMemory,
  statistic,
  type WeightOrigin,
} from "./protocol.ts";
import { type CellMove, moveFits } from "./rankCommand.ts";
import { profileFigures, readProfile } from "./stepProfile.ts";
import { requestedStep, resultElements, type StepRequest } from "./stepRequest.ts";

/** What starting an engine takes. */
export interface EngineStart {
  readonly description: RankDescription;
  /** Where the weights come from; the files of the description if absent. */
  readonly origin?: WeightOrigin;
  readonly options: EngineOptions;
  /** Told the bytes of weights read so far, and at the end. */
  readonly onProgress?: (bytes: number) => void;
  readonly signal?: AbortSignal | undefined;
}

/** What an engine counts; see `statistic`. */
export type EngineStatistics = Readonly<Record<Exclude<keyof typeof statistic, "length">, number>>;

const progressInterval = 100;
const running = new Uint8Array([0, 0]);
const stopping = new Uint8Array([1, 0]);

/** The main thread's end of the engine thread. One pass at a time. */
export class Engine implements AsyncDisposable {
  readonly description: RankDescription;
  readonly options: EngineOptions;
  readonly ready: EngineReady;
  readonly #memory: EngineMemory;
  readonly #calls: EngineCalls;
  readonly #abortFlag: NativeMemory;
  readonly #exited: Promise<void>;
  #sockets: number[] = [];
  #network: RankNetwork | undefined;
  #ended = false;

  /** Starts an engine thread and has it load the weights. Throws what that meets, or `ABORTED`. */
  static async start({ description, options, origin, onProgress, signal }: EngineStart): Promise<Engine> {
    if (signal?.aborted) throw aborted(signal);
    const from = origin ?? { kind: "gguf", files: description.files };
    if (from.kind === "slice" && from.placement.cached) beginReading(from.map.files[0]!);
    const sums = description.blocks.flatMap(sumsOf).length;
    const memory = engineMemory(options, { ...description.hyperparameters, sums });
    const setup: EngineSetup = { description, options, origin: from, shared: memory };
    const settings = { workerData: setup, resourceLimits: fewObjects };
    const worker = new Worker(threadScript("engine"), settings);
    const exited = new Promise<void>((resolve) => worker.once("exit", () => resolve()));
    const readied = readiness(worker, memory);
    readied.catch(() => {});
    const stop = () => Atomics.store(memory.loading, loadCounter.stop, 1);
    signal?.addEventListener("abort", stop);
    const timer = setInterval(() => onProgress?.(loadedBytes(memory)), progressInterval);
    let abortFlag: NativeMemory | undefined;
    try {
      abortFlag = openNative(memory);
      const ready = await readied;
      signal?.throwIfAborted();
      onProgress?.(memory.statistics[statistic.weightBytes]!);
      return new Engine(description, options, ready, worker, memory, abortFlag, exited);
    } catch (error) {
      stop();
      new EngineCalls(memory).close();
      await exited;
      abortFlag?.[Symbol.dispose]();
      throw signal?.aborted ? aborted(signal) : error;
    } finally {
      clearInterval(timer);
      signal?.removeEventListener("abort", stop);
    }
  }

  private constructor(
    description: RankDescription,
    options: EngineOptions,
    ready: EngineReady,
    worker: Worker,
    memory: EngineMemory,
    abortFlag: NativeMemory,
    exited: Promise<void>,
  ) {
    this.description = description;
    this.options = options;
    this.ready = ready;
    this.#memory = memory;
    this.#calls = new EngineCalls(memory);
    this.#abortFlag = abortFlag;
    this.#exited = exited;
    worker.on("error", (error) => this.#end(error));
    worker.on("exit", () => this.#end(new Error("its thread ended")));
  }

  /**
   * Computes a forward pass of one part, or of several, each of another slot. `signal` stops it within one operation of a block;
   * what it wrote to the KV cache is then void, and the next pass may start from the same positions.
   *
   * @returns rows in order of the parts, valid until the next pass: logits, (vocabulary size, outputs), or hidden
   * states, (embedding length, outputs)
   */
  async step(request: StepRequest | readonly StepRequest[], signal?: AbortSignal): Promise<Float32Array> {
    const parts = "tokens" in request ? [request] : request;
    this.#checkOpen();
    const step = requestedStep(parts, this.#limits, this.description.hyperparameters);
    if (signal?.aborted) throw aborted(signal);
    this.#setTokens(parts);
    this.#abortFlag.view.set(running);
    const stop = () => this.#abortFlag.view.set(stopping);
    signal?.addEventListener("abort", stop);
    try {
      if (!(await this.#calls.lead({ step }))) throw aborted(signal);
    } finally {
      signal?.removeEventListener("abort", stop);
    }
    return this.#memory.results.subarray(0, resultElements(step, this.description.hyperparameters));
  }

  /** Moves cells of the KV cache on all ranks. */
  async moveCells(move: CellMove): Promise<void> {
    this.#checkOpen();
    if (!moveFits(move, this.#limits)) throw new RangeError(`${JSON.stringify(move)} does not fit`);
    await this.#calls.lead(move);
  }

  /** Writes copies of this rank's cells to a new file, at most `mostKeptCopies`. Throws `FILE_UNWRITABLE`. */
  keepCells(keeping: CellKeeping): Promise<CellPlace[]> {
    return this.#request(command.keepCells, keeping);
  }

  /** Takes copies of this rank's cells from a file, at most `mostKeptCopies`. Returns the keys of those that are sound. */
  bringCells(bringing: CellBringing): Promise<number[]> {
    return this.#request(command.bringCells, bringing);
  }

  /** Opens a socket for links to other ranks; those that were open are closed. Returns the port. */
  async listen(host: string, port = 0): Promise<number> {
    // Their numbers may mean other sockets from now on.
    this.#sockets = [];
    return (await this.#request<{ port: number }>(command.listen, { host, port })).port;
  }

  /** Opens the links to the other ranks, which do so at the same time. Throws `LINK_LOST`. */
  async link(setup: LinkSetup): Promise<void> {
    const { sockets, network } = await this.#request<{ sockets: number[]; network?: RankNetwork }>(command.link, setup);
    this.#sockets = sockets;
    this.#network = network;
  }

  /** Takes part in the passes of rank 0 until the links are lost: rejects with `LINK_LOST` then. */
  async follow(): Promise<never> {
    await this.#request(command.follow, {});
    throw new Error("unreachable: following ends by an error");
  }

  /** Ends all connections to other ranks: a thread that waits for one goes on, with `LINK_LOST`. */
  cutLinks(): void {
    for (const socket of this.#sockets) shutdownSocket(socket);
    this.#sockets = [];
  }

  /** What was found out about the links that were opened last; undefined where there are none. */
  get network(): RankNetwork | undefined {
    return this.#network;
  }

  /** What all passes were made of, in milliseconds of the engine thread; see `profileFigures`. */
  get stepFigures(): Readonly<Record<string, number>> {
    return profileFigures(this.#memory.profile);
  }

  /** What the last pass was made of, block after block: milliseconds by `profiledParts`. */
  get profile(): Float32Array {
    return readProfile(this.#memory.profile);
  }

  /** Milliseconds on the engine thread, and traffic, summed over the engine's life. */
  get statistics(): EngineStatistics {
    const values = Object.entries(statistic).map(([name, index]) => [name, this.#memory.statistics[index] ?? 0]);
    return Object.fromEntries(values) as EngineStatistics;
  }

  /** What its threads have recorded, if they do: `EngineOptions.trace`. */
  get trace(): TraceEvents {
    return readEvents(this.#memory.trace ?? {}, this.description.blocks.map(blockName));
  }

  /** Sum of the milliseconds spent in graphs. */
  get computeMs(): number {
    return this.statistics.computeMs;
  }

  /** Bytes of the weights in memory. */
  get weightBytes(): number {
    return this.#memory.statistics[statistic.weightBytes]!;
  }

  /** Bytes of intermediate results, so far. */
  get computeBytes(): number {
    return this.#memory.statistics[statistic.computeBytes]!;
  }

  /** Stops the pass under way, if any, and frees everything. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    this.#abortFlag.view.set(stopping);
    this.cutLinks();
    this.#calls.close();
    await this.#exited;
    this.#calls.answerStopped();
    this.#abortFlag[Symbol.dispose]();
  }

  get #limits() {
    const { slots = 1, context, batch, outputs } = this.options;
    return { slots, context, batch, outputs };
  }

  #checkOpen(): void {
    if (this.#ended) throw new StelliumError("ENGINE_FAILED", { reason: "it is closed" });
  }

  #setTokens(parts: readonly StepRequest[]): void {
    let offset = 0;
    for (const { tokens } of parts) {
      this.#memory.tokens.set(tokens, offset);
      offset += tokens.length;
    }
  }

  /** Asks for something that takes and gives a value. */
  async #request<T>(what: number, value: unknown): Promise<T> {
    this.#checkOpen();
    return this.#calls.request<T>(what, value);
  }

  /** The thread ended by itself: whoever waits for a response is told. */
  #end(error: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#calls.answerFailed(String(error));
  }
}

function loadedBytes(memory: EngineMemory): number {
  return Atomics.load(memory.loading, loadCounter.mebibytes) * 2 ** 20;
}

/**
 * Loads the native libraries while the engine thread starts, which waits for that: the thread that loads the backends is the
 * one that receives native code's log. Returns the abort flag.
 */
function openNative({ loading, abortFlag: address }: EngineMemory): NativeMemory {
  try {
    openGgml();
    const abortFlag = allocateNative(running.length);
    abortFlag.view.set(running);
    address[0] = abortFlag.address;
    return abortFlag;
  } catch (error) {
    Atomics.store(loading, loadCounter.stop, 1);
    throw error;
  } finally {
    Atomics.store(loading, loadCounter.libraries, 1);
    Atomics.notify(loading, loadCounter.libraries);
  }
}

function readiness(worker: Worker, memory: EngineMemory): Promise<EngineReady> {
  return new Promise((resolve, reject) => {
    worker.once("error", reject);
    worker.once("exit", () => reject(new StelliumError("ENGINE_FAILED", { reason: "its thread ended" })));
    worker.once("message", (message: EngineReady | { failed: true }) => {
      if ("failed" in message) reject(engineFailure(memory));
      else resolve(message);
    });
  });
}

function aborted(signal: AbortSignal | undefined): StelliumError {
  return new StelliumError("ABORTED", { reason: String(signal?.reason ?? "it was asked to") });
}
