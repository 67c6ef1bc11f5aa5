import { StelliumError } from "../errors.ts";
import { type Batch, countTokens } from "../model/batch.ts";
import { passedOn } from "../model/blocks/definitions.ts";
import { inputValues } from "../model/hyperparameters.ts";
import type { ComputeBackend } from "../native/backend.ts";
import type { Ggml } from "../native/ggml.ts";
import { closeSocket, listenOn } from "../native/sockets.ts";
import type { RankDescription } from "../plan/rankDescription.ts";
import { openRecorder, type Recorder } from "../trace/recorder.ts";
import type { RoutingRecorder } from "../trace/routing.ts";
import { spanKind } from "../trace/spans.ts";
import type { Weights } from "../weights/weights.ts";
import { readCells, writeCells } from "./cellFile.ts";
import { CellStore } from "./cellStore.ts";
import { Forward } from "./forward.ts";
import { InputRows } from "./inputRows.ts";
import type { KvCache } from "./kvCache.ts";
import { Communication } from "./links/communication.ts";
import { type LinkSetup, RankLinks } from "./links/rankLinks.ts";
import { LogitCollector } from "./logits.ts";
import {
  type CellBringing,
  type CellKeeping,
  command,
  control,
  type EngineMemory,
  type EngineOptions,
  failureOf,
  putMessage,
  statistic,
  status,
  takeMessage,
} from "./protocol.ts";
import { commandInts, decodeCommand } from "./rankCommand.ts";
import { soloReducer } from "./reducer.ts";
import { StepProfiler, type StepTimes } from "./stepProfile.ts";

/** What the engine thread has when its weights are loaded. */
export interface EngineLoopParts {
  readonly ggml: Ggml;
  readonly backend: ComputeBackend;
  readonly description: RankDescription;
  readonly weights: Weights;
  readonly kv: KvCache;
  readonly options: EngineOptions;
  readonly shared: EngineMemory;
  readonly routing: RoutingRecorder;
}

const noRows = new Float32Array(0);

/** Does what the main thread asks for, one thing after the other, and waits in between. */
export class EngineLoop implements Disposable {
  readonly #parts: EngineLoopParts;
  readonly #shared: EngineMemory;
  readonly #inputs: Float32Array;
  /** On rank 0 only. */
  readonly #inputRows: InputRows | undefined;
  readonly #stored: CellStore;
  readonly #collector: LogitCollector;
  readonly #profiler: StepProfiler;
  #forward: Forward;
  #links: RankLinks | undefined;
  #listener: number | undefined;
  #communication: Communication | undefined;
  readonly #recorder: Recorder;

  constructor(parts: EngineLoopParts) {
    const { description, options } = parts;
    this.#parts = parts;
    this.#shared = parts.shared;
    this.#recorder = openRecorder(parts.shared.trace?.engine);
    this.#inputs = new Float32Array(inputValues(description.hyperparameters) * options.batch);
    this.#inputRows = description.embedding && new InputRows(parts);
    this.#stored = new CellStore(parts.kv, options.storedCells ?? 0);
    this.#collector = new LogitCollector(description);
    this.#profiler = new StepProfiler(parts.shared.profile, (times) => this.#readTimes(times));
    this.#forward = this.#openForward();
  }

  /** Returns when it is asked to end. */
  run(): void {
    const { control: cells } = this.#shared;
    for (let seen = 0; ; ) {
      // The call that announced the request before may come late, and wake this wait instead.
      while (Atomics.load(cells, control.request) === seen) Atomics.wait(cells, control.request, seen);
      seen = Atomics.load(cells, control.request);
      const asked = cells[control.command];
      if (asked === command.close) return;
      cells[control.status] = this.#answer(asked);
      Atomics.add(cells, control.response, 1);
      Atomics.notify(cells, control.response);
    }
  }

  [Symbol.dispose](): void {
    this.#closeLinks();
    this.#communication?.[Symbol.dispose]();
    this.#forward[Symbol.dispose]();
    this.#stored[Symbol.dispose]();
    this.#inputRows?.[Symbol.dispose]();
  }

  #answer(asked: number | undefined): number {
    try {
      if (asked === command.lead) return this.#lead();
      if (asked === command.listen) return this.#listen();
      if (asked === command.link) return this.#link();
      if (asked === command.follow) return this.#follow();
      if (asked === command.keepCells) return this.#keepCells();
      if (asked === command.bringCells) return this.#bringCells();
      throw new RangeError(`there is no command ${asked}`);
    } catch (error) {
      const failure = failureOf(error);
      // The other ranks may wait for what this one will not do. Of a lost link they are told otherwise.
      const leaves = asked === command.follow || !this.#forward.settled;
      if (leaves && failure.code !== "LINK_LOST") this.#links?.cut();
      putMessage(this.#shared, failure);
      return status.failed;
    }
  }

  /** Does what the main thread says, and has the other ranks do so. */
  #lead(): number {
    const { rankCommand, results } = this.#shared;
    const what = decodeCommand(rankCommand, this.#limits);
    this.#profiler.begin();
    const rows = "step" in what ? this.#embed(what.step) : noRows;
    this.#links?.announce(rankCommand, rows);
    if ("step" in what) return this.#take(what.step, rows, results) ? status.done : status.aborted;
    this.#stored.move(what);
    return status.done;
  }

  /** Makes what enters a pass with its tokens. */
  #embed(step: Batch): Float32Array {
    const rows = this.#rowsOf(step);
    const started = this.#recorder.now();
    this.#inputRows?.read(this.#shared.tokens.subarray(0, countTokens(step)), rows);
    this.#recorder.end(spanKind.embedding, started);
    return rows;
  }

  /** Does what rank 0 does until the links are closed, which ends it by `LINK_LOST`. */
  #follow(): never {
    const links = this.#links;
    if (links === undefined) throw new StelliumError("ENGINE_FAILED", { reason: "it has no links" });
    const received = new Int32Array(commandInts(this.#limits.slots));
    for (;;) {
      links.receiveCommand(received);
      const what = decodeCommand(received, this.#limits);
      if ("step" in what) {
        const rows = this.#rowsOf(what.step);
        this.#profiler.begin();
        links.receiveRows(rows);
        this.#take(what.step, rows, this.#shared.results);
      } else this.#stored.move(what);
    }
  }

  get #limits() {
    const { slots = 1, context, batch, outputs } = this.#parts.options;
    // A rank that gives none itself may have some rows of the head.
    return { slots, context, batch, outputs: Math.max(outputs, slots) };
  }

  /** Room for what enters a pass. */
  #rowsOf(step: Batch): Float32Array {
    return this.#inputs.subarray(0, countTokens(step) * inputValues(this.#parts.description.hyperparameters));
  }

  /** Computes a pass. Where the head is sharded, rank 0 has all logits among the results then. */
  #take(step: Batch, rows: Float32Array, results: Float32Array): boolean {
    try {
      return this.#compute(step, rows, results);
    } finally {
      // All ranks do it or none does: also one that was stopped, or failed, only in the head, where the others go on.
      const { sound, logits } = this.#forward;
      if (sound && logits !== undefined) this.#collector.collect(logits, this.#links, results);
    }
  }

  #compute(step: Batch, rows: Float32Array, results: Float32Array): boolean {
    const computeBefore = this.#forward.computeMs;
    const expertsBefore = this.#parts.weights.pool?.bytesRead ?? 0;
    try {
      return this.#forward.run(step, rows, results);
    } finally {
      this.#count(this.#forward.computeMs - computeBefore);
      if (countTokens(step) === step.length) this.#countDecoded(step.length, expertsBefore);
      this.#profiler.end();
    }
  }

  #listen(): number {
    const { host, port } = takeMessage<{ host: string; port: number }>(this.#shared);
    this.#closeLinks();
    const listening = listenOn(host, port);
    this.#listener = listening.socket;
    putMessage(this.#shared, { port: listening.port });
    return status.done;
  }

  #link(): number {
    const setup = takeMessage<LinkSetup>(this.#shared);
    const { hyperparameters, blocks, share } = this.#parts.description;
    const values = { usual: hyperparameters.embeddingLength, exact: passedOn(blocks, share).steering };
    if (this.#listener === undefined) throw new StelliumError("ENGINE_FAILED", { reason: "it does not listen" });
    this.#links = new RankLinks({
      listener: this.#listener,
      setup,
      values,
      batch: this.#parts.options.batch,
      communication: () => this.#communicate(),
      recorder: this.#recorder,
    });
    this.#forward[Symbol.dispose]();
    // Another rank may have lost its part of what was kept.
    this.#stored[Symbol.dispose]();
    this.#forward = this.#openForward();
    this.#shared.statistics[statistic.openingBytes] = this.#links.openingBytes;
    putMessage(this.#shared, { sockets: this.#links.sockets, network: this.#links.network });
    return status.done;
  }

  #keepCells(): number {
    const { path, keys } = takeMessage<CellKeeping>(this.#shared);
    putMessage(this.#shared, writeCells(this.#stored, path, keys));
    return status.done;
  }

  #bringCells(): number {
    const { path, places } = takeMessage<CellBringing>(this.#shared);
    putMessage(this.#shared, readCells(this.#stored, path, places));
    return status.done;
  }

  #openForward(): Forward {
    const { options, ...parts } = this.#parts;
    const reducer = this.#profiler.follow(this.#links?.reducer ?? soloReducer);
    return new Forward({ ...parts, ...options, reducer, recorder: this.#recorder });
  }

  /** Writes what this thread has spent so far. */
  #readTimes(times: StepTimes): void {
    times.computeMs = this.#forward.computeMs;
    const { window, pool } = this.#parts.weights;
    times.diskMs = window.waitMs + (pool?.waitMs ?? 0);
    times.wireMs = this.#links?.wireMs ?? 0;
    times.cipherMs = this.#links?.cipherMs ?? 0;
    times.waitMs = this.#links?.waitMs ?? 0;
  }

  /** The communication thread; started at its first use. */
  #communicate(): Communication {
    this.#communication ??= new Communication(this.#shared.trace?.communication);
    return this.#communication;
  }

  #closeLinks(): void {
    this.#links?.[Symbol.dispose]();
    this.#links = undefined;
    if (this.#listener !== undefined) closeSocket(this.#listener);
    this.#listener = undefined;
  }

  /** @param expertsBefore - bytes of experts that were read before the pass */
  #countDecoded(tokens: number, expertsBefore: number): void {
    const { statistics } = this.#shared;
    statistics[statistic.decodedTokens]! += tokens;
    statistics[statistic.decodedExpertBytes]! += (this.#parts.weights.pool?.bytesRead ?? 0) - expertsBefore;
  }

  #count(computeMs: number): void {
    const { statistics } = this.#shared;
    const links = this.#links?.statistics;
    statistics[statistic.computeMs]! += computeMs;
    statistics[statistic.steps]! += 1;
    statistics[statistic.computeBytes] = this.#forward.computeBytes;
    const { window, pool } = this.#parts.weights;
    statistics[statistic.diskWaitMs] = window.waitMs + (pool?.waitMs ?? 0);
    statistics[statistic.expertHits] = pool?.hits ?? 0;
    statistics[statistic.expertMisses] = pool?.misses ?? 0;
    statistics[statistic.expertsReadAhead] = pool?.readAhead ?? 0;
    statistics[statistic.expertBytes] = pool?.bytesRead ?? 0;
    statistics[statistic.diskBytes] = window.bytesRead + (pool?.bytesRead ?? 0);
    statistics[statistic.windowFilled] = window.filled;
    if (links === undefined) return;
    statistics[statistic.collectives] = links.count;
    statistics[statistic.wireMs] = links.wireMs;
    statistics[statistic.waitMs] = links.waitMs;
    statistics[statistic.cipherMs] = links.cipherMs;
    statistics[statistic.bytesSent] = links.bytesSent;
    statistics[statistic.bytesReceived] = links.bytesReceived;
  }
}
