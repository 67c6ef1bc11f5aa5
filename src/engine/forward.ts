import { StelliumError } from "../errors.ts";
import type { ComputeBackend } from "../native/backend.ts";
import { type Ggml, type GraphAllocator, graphStatus, required, type Tensor } from "../native/ggml.ts";
import type { RankBlock, RankDescription } from "../plan/rankDescription.ts";
import { noRecorder, type Recorder } from "../trace/recorder.ts";
import { blockSubject, spanKind } from "../trace/spans.ts";
import type { WeightStore } from "../weights/weightStore.ts";
import type { StepShape } from "./blocks.ts";
import { divideTokens, tokensOfLane } from "./division.ts";
import type { GraphBuilder } from "./graphBuilder.ts";
import { type KvCache, paddedCells } from "./kvCache.ts";
import { Lane, type Step } from "./lane.ts";
import type { Reducer } from "./reducer.ts";
import { buildSegments, type Segment } from "./segments.ts";

/** What a forward pass is made of. */
export interface ForwardParts {
  readonly ggml: Ggml;
  readonly backend: ComputeBackend;
  readonly description: RankDescription;
  readonly weights: WeightStore;
  readonly kv: KvCache;
  /** Most tokens of one step. */
  readonly batch: number;
  /** Tokens the KV cache has room for. */
  readonly context: number;
  /** Adds up what the ranks computed, behind every block. */
  readonly reducer: Reducer;
  /** One graph for each block, or for all where nothing happens between them. */
  readonly graphs: "whole" | "block";
  readonly recorder?: Recorder | undefined;
}

/** Graphs kept for further steps of the same shape: those of decoding, and of full and last batches of a prompt. */
const keptShapes = 4;

/** The graphs of one step shape in one lane. */
interface ShapedGraphs extends Disposable {
  readonly segments: readonly Segment[];
  readonly logits: Tensor | null;
}

/** The tokens of a step that pass through the blocks together. */
interface Group {
  readonly lane: number;
  readonly graphs: ShapedGraphs;
  readonly tokens: number;
  /** Tokens with logits, and how many of the step come before them. */
  readonly outputs: number;
  readonly outputsBefore: number;
}

/** Takes steps through the blocks. */
export class Forward implements Disposable {
  readonly #parts: ForwardParts;
  readonly #segments: readonly (readonly RankBlock[])[];
  readonly #lanes: readonly Lane[];
  readonly #subjects: readonly number[];
  readonly #recorder: Recorder;
  readonly #allocator: GraphAllocator;
  readonly #graphs = new Map<string, ShapedGraphs>();
  /** Where the logits of the step under way go. */
  #logits: Float32Array = new Float32Array(0);
  #computeMs = 0;
  /** Counts how often the buffer of the graphs has grown. */
  #growth = 0;
  #aborted = false;

  constructor(parts: ForwardParts) {
    const { ggml, backend, description, reducer, batch, context } = parts;
    const { embeddingLength } = description.hyperparameters;
    this.#parts = parts;
    this.#segments =
      reducer.separates || parts.graphs === "block" ? description.blocks.map((block) => [block]) : [description.blocks];
    this.#subjects = this.#segments.map(blockSubject);
    this.#recorder = parts.recorder ?? noRecorder;
    const size = { embeddingLength, tokens: tokensOfLane(batch, reducer.lanes), context };
    this.#lanes = Array.from({ length: reducer.lanes }, () => new Lane(ggml, backend.device, size));
    const type = ggml.deviceBufferType(backend.device);
    this.#allocator = required(ggml.newGraphAllocator(type), "allocating graphs");
  }

  /** Milliseconds spent in graphs. */
  get computeMs(): number {
    return this.#computeMs;
  }

  /** Bytes of intermediate results. */
  get computeBytes(): number {
    return Number(this.#parts.ggml.allocatorBytes(this.#allocator, 0));
  }

  /**
   * Computes a step. Where ranks share the blocks, the tokens of a large one go in several groups, which leapfrog: while
   * the sums of one group are on their way, the other is computed.
   *
   * @param embeddings - (embedding length, tokens), the tokens' rows of the embedding
   * @param logits - (vocabulary size, outputs), filled in on the rank that has the head
   * @returns whether it was computed to its end, and not stopped by the abort flag of any rank
   */
  run(step: Step, embeddings: Float32Array, logits: Float32Array): boolean {
    const started = this.#recorder.now();
    const groups = this.#prepare(step, embeddings);
    this.#logits = logits;
    this.#aborted = false;
    const steps = this.#segments.flatMap((_, segment) => groups.map((group) => ({ group, segment })));
    const complete = steps.every(({ group, segment }) => this.#runSegment(group, segment));
    const settled = groups.map(({ lane }) => this.#parts.reducer.wait(lane)).every(Boolean);
    this.#recorder.end(spanKind.step, started, 0, step.tokens);
    return complete && settled && !this.#aborted;
  }

  [Symbol.dispose](): void {
    this.#forget(0);
    this.#parts.ggml.freeGraphAllocator(this.#allocator);
    disposeAll(this.#lanes);
  }

  /** Divides a step's tokens among the lanes and fills those. Only the last tokens have outputs. */
  #prepare(step: Step, embeddings: Float32Array): Group[] {
    const { embeddingLength } = this.#parts.description.hyperparameters;
    this.#parts.kv.zeroUpTo(paddedCells(step.position + step.tokens));
    const parts = this.#divide(step);
    const groups = this.#groups(parts);
    parts.forEach((part, lane) => {
      const first = (part.position - step.position) * embeddingLength;
      const rows = embeddings.subarray(first, first + part.tokens * embeddingLength);
      this.#lanes[lane]!.fill(part, shapeOf(part), rows);
    });
    return groups;
  }

  #divide(step: Step): Step[] {
    const withoutOutputs = step.tokens - step.outputs;
    return divideTokens(step.tokens, this.#parts.reducer.begin(step.tokens)).map(({ first, count }) => {
      const outputs = Math.min(count, Math.max(0, first + count - withoutOutputs));
      return { tokens: count, position: step.position + first, outputs };
    });
  }

  /** The graphs of all parts. Where those of one made the buffer grow, those of the others are built again. */
  #groups(parts: readonly Step[]): Group[] {
    const growth = this.#growth;
    const outputsBefore = (lane: number) => parts.slice(0, lane).reduce((sum, { outputs }) => sum + outputs, 0);
    const groups = parts.map((part, lane) => {
      const graphs = this.#graphsFor(lane, shapeOf(part));
      return { lane, graphs, tokens: part.tokens, outputs: part.outputs, outputsBefore: outputsBefore(lane) };
    });
    return growth === this.#growth ? groups : this.#groups(parts);
  }

  /** Computes one segment of one group, once the sums it starts from are there. Returns false where those tell to stop. */
  #runSegment(group: Group, index: number): boolean {
    if (!this.#parts.reducer.wait(group.lane)) return false;
    const segment = group.graphs.segments[index];
    if (segment === undefined) return true;
    const aborted = this.#compute(segment, this.#subjects[index]!, group.tokens);
    this.#aborted ||= aborted;
    if (segment.reduces) this.#reduce(group.lane, segment, this.#subjects[index]!, aborted);
    else this.#readLogits(group);
    return true;
  }

  /** Computes a graph. Returns whether it was stopped. */
  #compute(segment: Segment, subject: number, tokens: number): boolean {
    const { ggml, backend } = this.#parts;
    const [started, begun] = [performance.now(), this.#recorder.now()];
    const status = ggml.compute(backend.backend, segment.builder.graph);
    this.#recorder.end(spanKind.compute, begun, subject, tokens);
    this.#computeMs += performance.now() - started;
    const aborted = status === graphStatus.aborted;
    if (aborted || status === graphStatus.success) return aborted;
    throw new StelliumError("ENGINE_FAILED", { reason: `ggml's status is ${status}` });
  }

  /** A rank that was stopped says so by its sums, so that all ranks stop at the same block. */
  #reduce(lane: number, segment: Segment, subject: number, aborted: boolean): void {
    const partial = this.#lanes[lane]!.partialSums(segment.columns);
    if (aborted) partial.values.fill(Number.NaN);
    else if (segment.empty) partial.values.fill(0);
    this.#parts.reducer.start(lane, partial, subject);
  }

  /** Copies a group's logits, before the graphs of another group take their place. */
  #readLogits({ graphs, outputs, outputsBefore }: Group): void {
    if (graphs.logits === null) return;
    const { vocabularySize } = this.#parts.description.hyperparameters;
    const rows = this.#logits.subarray(outputsBefore * vocabularySize, (outputsBefore + outputs) * vocabularySize);
    const bytes = new Uint8Array(rows.buffer, rows.byteOffset, rows.byteLength);
    this.#parts.ggml.getTensor(graphs.logits, bytes, 0, bytes.length);
  }

  /** The graphs of a shape: those built before where possible, since decoding asks for the same shape again and again. */
  #graphsFor(lane: number, shape: StepShape): ShapedGraphs {
    const key = `${lane} ${shape.tokens} ${shape.cells} ${shape.outputs}`;
    const known = this.#graphs.get(key);
    const graphs = known ?? this.#build(this.#lanes[lane]!, shape);
    this.#graphs.delete(key);
    this.#graphs.set(key, graphs);
    this.#forget(keptShapes * this.#lanes.length);
    return graphs;
  }

  #forget(kept: number): void {
    for (const [key, graphs] of this.#graphs) {
      if (this.#graphs.size <= kept) return;
      this.#graphs.delete(key);
      graphs[Symbol.dispose]();
    }
  }

  #build(lane: Lane, shape: StepShape): ShapedGraphs {
    const { segments, logits } = buildSegments(this.#parts, this.#segments, lane, shape);
    const builders = segments.map(({ builder }) => builder);
    this.#allocate(builders);
    return { segments, logits, [Symbol.dispose]: () => disposeAll(builders) };
  }

  /**
   * All graphs share one buffer. Where it has to grow, graphs placed in it before are void; and ggml places a graph only
   * once, so the room is made before any is placed.
   */
  #allocate(builders: readonly GraphBuilder[]): void {
    const { ggml } = this.#parts;
    const before = this.computeBytes;
    const reserved = builders.every(({ graph }) => ggml.reserveGraph(this.#allocator, graph));
    if (this.computeBytes !== before) {
      this.#forget(0);
      this.#growth++;
    }
    if (reserved && builders.every(({ graph }) => ggml.allocateGraph(this.#allocator, graph))) return;
    throw new StelliumError("NATIVE_FAILED", { operation: "making room for intermediate results" });
  }
}

function shapeOf({ tokens, position, outputs }: Step): StepShape {
  return { tokens, cells: paddedCells(position + tokens), outputs };
}

function disposeAll(resources: readonly Disposable[]): void {
  for (const resource of resources) resource[Symbol.dispose]();
}
