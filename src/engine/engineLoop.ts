import { StelliumError } from "../errors.ts";
import type { ComputeBackend } from "../native/backend.ts";
import type { Ggml } from "../native/ggml.ts";
import { closeSocket, listenOn } from "../native/sockets.ts";
import type { RankDescription } from "../plan/rankDescription.ts";
import { openRecorder, type Recorder } from "../trace/recorder.ts";
import { spanKind } from "../trace/spans.ts";
import type { WeightStore } from "../weights/weightStore.ts";
import { Communication } from "./communication.ts";
import { Embedding } from "./embedding.ts";
import { Forward } from "./forward.ts";
import type { KvCache } from "./kvCache.ts";
import type { Step } from "./lane.ts";
import {
  command,
  control,
  type EngineMemory,
  type EngineOptions,
  failureOf,
  putExchange,
  statistic,
  status,
  takeExchange,
} from "./protocol.ts";
import { type LinkSetup, RankLinks } from "./rankLinks.ts";
import { soloReducer } from "./reducer.ts";

/** What the engine thread has when its weights are loaded. */
export interface EngineLoopParts {
  readonly ggml: Ggml;
  readonly backend: ComputeBackend;
  readonly description: RankDescription;
  readonly weights: WeightStore;
  readonly kv: KvCache;
  readonly options: EngineOptions;
  readonly shared: EngineMemory;
}

const noLogits = new Float32Array(0);

/** Does what the main thread asks for, one thing after the other, and waits in between. */
export class EngineLoop implements Disposable {
  readonly #parts: EngineLoopParts;
  readonly #shared: EngineMemory;
  readonly #embeddings: Float32Array;
  /** On rank 0 only. */
  readonly #embedding: Embedding | undefined;
  #forward: Forward;
  #links: RankLinks | undefined;
  #listener: number | undefined;
  #communication: Communication | undefined;
  readonly #recorder: Recorder;

  constructor(parts: EngineLoopParts) {
    const { ggml, description, options } = parts;
    const { files, embedding, hyperparameters } = description;
    this.#parts = parts;
    this.#shared = parts.shared;
    this.#recorder = openRecorder(parts.shared.trace?.engine);
    this.#embeddings = new Float32Array(hyperparameters.embeddingLength * options.batch);
    this.#embedding = embedding && new Embedding(ggml, files[embedding.file]!, embedding);
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
    this.#embedding?.[Symbol.dispose]();
  }

  #answer(asked: number | undefined): number {
    try {
      if (asked === command.step) return this.#takeStep();
      if (asked === command.listen) return this.#listen();
      if (asked === command.link) return this.#link();
      if (asked === command.follow) return this.#follow();
      throw new RangeError(`there is no command ${asked}`);
    } catch (error) {
      putExchange(this.#shared, failureOf(error));
      return status.failed;
    }
  }

  #takeStep(): number {
    const { control: cells, tokens, logits } = this.#shared;
    const { embeddingLength, vocabularySize } = this.#parts.description.hyperparameters;
    const [count, position, outputs] = [cells[control.tokens]!, cells[control.position]!, cells[control.outputs]!];
    const step = { tokens: count, position, outputs };
    const rows = this.#embeddings.subarray(0, count * embeddingLength);
    const started = this.#recorder.now();
    this.#embedding?.read(tokens.subarray(0, count), rows);
    this.#recorder.end(spanKind.embedding, started);
    this.#links?.announce(step, rows);
    const complete = this.#compute(step, rows, logits.subarray(0, outputs * vocabularySize));
    return complete ? status.done : status.aborted;
  }

  /** Takes the steps of rank 0 until the links are closed, which ends it by `LINK_LOST`. */
  #follow(): never {
    const { embeddingLength } = this.#parts.description.hyperparameters;
    if (this.#links === undefined) throw new StelliumError("ENGINE_FAILED", { reason: "it has no links" });
    for (;;) {
      const step = this.#links.nextStep(this.#embeddings, embeddingLength);
      this.#compute(step, this.#embeddings.subarray(0, step.tokens * embeddingLength));
    }
  }

  #compute(step: Step, rows: Float32Array, logits: Float32Array = noLogits): boolean {
    const before = this.#forward.computeMs;
    try {
      return this.#forward.run(step, rows, logits);
    } finally {
      this.#count(this.#forward.computeMs - before);
    }
  }

  #listen(): number {
    const { host, port } = takeExchange<{ host: string; port: number }>(this.#shared);
    this.#closeLinks();
    const listening = listenOn(host, port);
    this.#listener = listening.socket;
    putExchange(this.#shared, { port: listening.port });
    return status.done;
  }

  #link(): number {
    const setup = takeExchange<LinkSetup>(this.#shared);
    const { embeddingLength } = this.#parts.description.hyperparameters;
    if (this.#listener === undefined) throw new StelliumError("ENGINE_FAILED", { reason: "it does not listen" });
    this.#links = new RankLinks({
      listener: this.#listener,
      setup,
      embeddingLength,
      batch: this.#parts.options.batch,
      communication: () => this.#communicate(),
      recorder: this.#recorder,
    });
    this.#forward[Symbol.dispose]();
    this.#forward = this.#openForward();
    putExchange(this.#shared, { sockets: this.#links.sockets });
    return status.done;
  }

  #openForward(): Forward {
    const { options, ...parts } = this.#parts;
    const reducer = this.#links?.reducer ?? soloReducer;
    return new Forward({ ...parts, ...options, reducer, recorder: this.#recorder });
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

  #count(computeMs: number): void {
    const { statistics } = this.#shared;
    const links = this.#links?.statistics;
    statistics[statistic.computeMs]! += computeMs;
    statistics[statistic.steps]! += 1;
    statistics[statistic.computeBytes] = this.#forward.computeBytes;
    if (links === undefined) return;
    statistics[statistic.collectives] = links.count;
    statistics[statistic.wireMs] = links.wireMs;
    statistics[statistic.waitMs] = links.waitMs;
    statistics[statistic.cipherMs] = links.cipherMs;
    statistics[statistic.bytesSent] = links.bytesSent;
    statistics[statistic.bytesReceived] = links.bytesReceived;
  }
}
