import { Worker } from "node:worker_threads";
import { type ErrorCode, StelliumError } from "../errors.ts";
import { openGgml } from "../native/ggml.ts";
import { allocateNative, type NativeMemory } from "../native/memory.ts";
import { shutdownSocket } from "../native/sockets.ts";
import type { RankDescription } from "../plan/rankDescription.ts";
import { readEvents, type TraceEvents } from "../trace/events.ts";
import { loadCounter } from "../weights/loader.ts";
import { beginReading } from "../weights/loadFile.ts";
import type { CellPlace } from "./cellFile.ts";
import {
  type CellBringing,
  type CellKeeping,
  command,
  control,
  type EngineMemory,
  type EngineOptions,
  type EngineReady,
  type EngineSetup,
  engineMemory,
  putExchange,
  statistic,
  status,
  takeExchange,
  type WeightOrigin,
} from "./protocol.ts";
import { type CellMove, encodeCommand, moveFits, type RankCommand, stepFits } from "./rankCommand.ts";
import type { LinkSetup, Network } from "./rankLinks.ts";
import type { Step } from "./step.ts";
import { profileFigures, readProfile } from "./stepProfile.ts";

/** Tokens of one sequence that a step is to take. */
export interface StepRequest {
  /** Ids, each below the vocabulary's size. */
  readonly tokens: ArrayLike<number>;
  /** Position of the first of them: how many tokens of the sequence are in the KV cache already. */
  readonly position: number;
  /** The last so many tokens get results. */
  readonly outputs: number;
  /** Which sequence of the KV cache; 0 if absent. */
  readonly slot?: number;
  /** Whether results are to be hidden states behind the last norm; logits if absent. */
  readonly hidden?: boolean;
}

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

/** The main thread's end of the engine thread. One step at a time. */
export class Engine implements AsyncDisposable {
  readonly description: RankDescription;
  readonly options: EngineOptions;
  readonly ready: EngineReady;
  readonly #memory: EngineMemory;
  readonly #abortFlag: NativeMemory;
  readonly #exited: Promise<void>;
  #sockets: number[] = [];
  #network: Network | undefined;
  #ended = false;

  /** Starts an engine thread and has it load the weights. Throws what that meets, or `ABORTED`. */
  static async start({ description, options, origin, onProgress, signal }: EngineStart): Promise<Engine> {
    if (signal?.aborted) throw aborted(signal);
    const from = origin ?? { kind: "gguf", files: description.files };
    if (from.kind === "slice" && from.placement.cached) beginReading(from.map.files[0]!);
    const blocks = description.blocks.length;
    const memory = engineMemory(options, { ...description.hyperparameters, blocks });
    const setup: EngineSetup = { description, options, origin: from, shared: memory };
    const worker = new Worker(new URL("./engineThread.js", import.meta.url), { workerData: setup });
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
      askToClose(memory);
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
    this.#abortFlag = abortFlag;
    this.#exited = exited;
    worker.on("error", (error) => this.#end(error));
    worker.on("exit", () => this.#end(new Error("its thread ended")));
  }

  /**
   * Takes a step of one part, or of several, each of another slot. `signal` stops it within one operation of a block;
   * what it wrote to the KV cache is then void, and the next step may start from the same positions.
   *
   * @returns rows in order of the parts, valid until the next step: logits, (vocabulary size, outputs), or hidden
   * states, (embedding length, outputs)
   */
  async step(request: StepRequest | readonly StepRequest[], signal?: AbortSignal): Promise<Float32Array> {
    const parts = "tokens" in request ? [request] : request;
    const step = parts.map(({ tokens, position, outputs, slot = 0, hidden = false }) => {
      return { slot, tokens: tokens.length, position, outputs, hidden };
    });
    this.#check(parts, step);
    if (signal?.aborted) throw aborted(signal);
    this.#setTokens(parts);
    this.#abortFlag.view.set(running);
    const stop = () => this.#abortFlag.view.set(stopping);
    signal?.addEventListener("abort", stop);
    try {
      await this.#lead({ step });
    } finally {
      signal?.removeEventListener("abort", stop);
    }
    if (this.#memory.control[control.status] === status.aborted) throw aborted(signal);
    return this.#memory.results.subarray(0, this.#rowElements(step, false) + this.#rowElements(step, true));
  }

  /** Moves cells of the KV cache on all ranks. */
  async moveCells(move: CellMove): Promise<void> {
    this.#checkOpen();
    if (!moveFits(move, this.#limits)) throw new RangeError(`${JSON.stringify(move)} does not fit`);
    await this.#lead(move);
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
    const { sockets, network } = await this.#request<{ sockets: number[]; network?: Network }>(command.link, setup);
    this.#sockets = sockets;
    this.#network = network;
  }

  /** Takes the steps that rank 0 takes, until the links are lost: rejects with `LINK_LOST` then. */
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
  get network(): Network | undefined {
    return this.#network;
  }

  /** What all steps were made of, in milliseconds of the engine thread; see `profileFigures`. */
  get stepFigures(): Readonly<Record<string, number>> {
    return profileFigures(this.#memory.profile);
  }

  /** What the last step was made of, block after block: milliseconds by `profiledParts`. */
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
    return readEvents(this.#memory.trace ?? {});
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

  /** Stops the step under way, if any, and frees everything. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    this.#abortFlag.view.set(stopping);
    this.cutLinks();
    askToClose(this.#memory);
    await this.#exited;
    this.#answer(status.aborted);
    this.#abortFlag[Symbol.dispose]();
  }

  get #limits() {
    const { slots = 1, context, batch } = this.options;
    return { slots, context, batch };
  }

  #checkOpen(): void {
    if (this.#ended) throw new StelliumError("ENGINE_FAILED", { reason: "it is closed" });
  }

  #check(parts: readonly StepRequest[], step: Step): void {
    const { vocabularySize } = this.description.hyperparameters;
    this.#checkOpen();
    if (!stepFits(step, this.#limits)) {
      throw new RangeError(`the step ${JSON.stringify(step)} does not fit ${JSON.stringify(this.#limits)}`);
    }
    const logits = this.#rowElements(step, false) / vocabularySize;
    const hidden = step.some((part) => part.hidden);
    if (logits > this.options.outputs || (hidden && this.options.outputs === 0)) {
      throw new RangeError(`${logits} outputs do not fit ${this.options.outputs}`);
    }
    for (const { tokens } of parts) checkTokens(tokens, vocabularySize);
  }

  /** Values of the results of a step: of hidden states, or of logits. */
  #rowElements(step: Step, ofHidden: boolean): number {
    const { vocabularySize, embeddingLength } = this.description.hyperparameters;
    const width = ofHidden ? embeddingLength : vocabularySize;
    return step.reduce((sum, { outputs, hidden }) => sum + (hidden === ofHidden ? outputs * width : 0), 0);
  }

  #setTokens(parts: readonly StepRequest[]): void {
    let offset = 0;
    for (const { tokens } of parts) {
      this.#memory.tokens.set(tokens, offset);
      offset += tokens.length;
    }
  }

  /** Has all ranks do something. */
  async #lead(what: RankCommand): Promise<void> {
    encodeCommand(what, this.#memory.rankCommand);
    await this.#command(command.lead);
    if (this.#memory.control[control.status] === status.failed) throw failure(this.#memory);
  }

  /** Asks for something that takes and gives a value. */
  async #request<T>(what: number, value: unknown): Promise<T> {
    this.#checkOpen();
    putExchange(this.#memory, value);
    await this.#command(what);
    if (this.#memory.control[control.status] === status.failed) throw failure(this.#memory);
    return takeExchange<T>(this.#memory);
  }

  async #command(what: number): Promise<void> {
    const { control: cells } = this.#memory;
    const before = Atomics.load(cells, control.response);
    cells[control.command] = what;
    Atomics.add(cells, control.request, 1);
    Atomics.notify(cells, control.request);
    // The call that announced the response before may come late, and wake this wait instead.
    while (Atomics.load(cells, control.response) === before) {
      const waiting = Atomics.waitAsync(cells, control.response, before);
      if (waiting.async) await waiting.value;
    }
  }

  /** The thread ended by itself: whoever waits for a response is told. */
  #end(error: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    putExchange(this.#memory, { code: "ENGINE_FAILED", values: { reason: String(error) } });
    this.#answer(status.failed);
  }

  /** Answers in place of a thread that ended, which may have done so before it saw what it was asked. */
  #answer(how: number): void {
    const { control: cells } = this.#memory;
    cells[control.status] = how;
    Atomics.add(cells, control.response, 1);
    Atomics.notify(cells, control.response);
  }
}

function checkTokens(tokens: ArrayLike<number>, vocabularySize: number): void {
  for (let i = 0; i < tokens.length; i++) {
    const token = tokens[i]!;
    if (!(token >= 0 && token < vocabularySize)) throw new RangeError(`there is no token ${token}`);
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

function askToClose({ control: cells }: EngineMemory): void {
  cells[control.command] = command.close;
  Atomics.add(cells, control.request, 1);
  Atomics.notify(cells, control.request);
}

function readiness(worker: Worker, memory: EngineMemory): Promise<EngineReady> {
  return new Promise((resolve, reject) => {
    worker.once("error", reject);
    worker.once("exit", () => reject(new StelliumError("ENGINE_FAILED", { reason: "its thread ended" })));
    worker.once("message", (message: EngineReady | { failed: true }) => {
      if ("failed" in message) reject(failure(memory));
      else resolve(message);
    });
  });
}

function failure(memory: EngineMemory): StelliumError {
  const { code, values } = takeExchange<{ code: ErrorCode; values: Record<string, string | number> }>(memory);
  return new StelliumError(code, values);
}

function aborted(signal: AbortSignal | undefined): StelliumError {
  return new StelliumError("ABORTED", { reason: String(signal?.reason ?? "it was asked to") });
}
