import { StelliumError } from "../errors.ts";
import type { ComputeBackend } from "../native/backend.ts";
import { type Ggml, type GraphAllocator, graphStatus, required, type Tensor } from "../native/ggml.ts";
import type { RankBlock, RankDescription } from "../plan/rankDescription.ts";
import type { Weights } from "../weights/weights.ts";
import type { StepResults } from "./blocks.ts";
import type { GraphBuilder } from "./graphBuilder.ts";
import type { KvCache } from "./kvCache.ts";
import { Lane } from "./lane.ts";
import type { Reducer } from "./reducer.ts";
import { buildSegments, type Segment } from "./segments.ts";
import {
  divideStep,
  layOut,
  resultsOf,
  type Step,
  type StepLayout,
  type StepPiece,
  type StepShape,
  shapeKey,
} from "./step.ts";

/** What a forward pass is made of. */
export interface ForwardParts {
  readonly ggml: Ggml;
  readonly backend: ComputeBackend;
  readonly description: RankDescription;
  readonly weights: Weights;
  readonly kv: KvCache;
  /** Most tokens of one step. */
  readonly batch: number;
  /** Adds up what the ranks computed, behind every block. */
  readonly reducer: Reducer;
  /** One graph for each block, or for all where nothing happens between them. */
  readonly graphs: "whole" | "block";
}

/** Graphs kept for further steps of the same shape: those of decoding, and of full and last batches of a prompt. */
const keptShapes = 6;

/** The graphs of one step shape in one lane. */
interface ShapedGraphs extends Disposable {
  readonly segments: readonly Segment[];
  readonly results: StepResults;
}

/** The tokens of a step that pass through the blocks together. */
interface Group {
  readonly lane: number;
  readonly graphs: ShapedGraphs;
  readonly step: Step;
  readonly layout: StepLayout;
}

/** Takes steps through the blocks. */
export class Forward implements Disposable {
  readonly #parts: ForwardParts;
  readonly #segments: readonly (readonly RankBlock[])[];
  /** By segment: the block that has to be brought into memory for it, if any. */
  readonly #streamed: readonly (number | undefined)[];
  readonly #lanes: readonly Lane[];
  readonly #laneTokens: number;
  readonly #allocator: GraphAllocator;
  readonly #graphs = new Map<string, ShapedGraphs>();
  #groups: readonly Group[] = [];
  #computeMs = 0;
  /** Counts how often the buffer of the graphs has grown. */
  #growth = 0;
  #aborted = false;
  #sound = true;
  /** The block that is to stay in the window. */
  #held: number | undefined;
  #lastLane = 0;
  /** Why a block could not be read. */
  #failure: unknown;

  constructor(parts: ForwardParts) {
    const { ggml, backend, description, reducer, batch, kv } = parts;
    const { embeddingLength } = description.hyperparameters;
    this.#parts = parts;
    this.#segments = segmentsOf(description.blocks, reducer.separates || parts.graphs === "block", parts.weights);
    this.#streamed = this.#segments.map(([block]) => streamedBlock(description.blocks, block!, parts.weights));
    this.#laneTokens = Math.ceil(batch / reducer.lanes);
    const size = { embeddingLength, tokens: this.#laneTokens, slotCells: kv.slotCells };
    this.#lanes = Array.from({ length: reducer.lanes }, () => new Lane(ggml, backend.device, size));
    const type = ggml.deviceBufferType(backend.device);
    this.#allocator = required(ggml.newGraphAllocator(type), "allocating graphs");
  }

  /** Milliseconds spent in graphs. */
  get computeMs(): number {
    return this.#computeMs;
  }

  /** Whether no rank was stopped before the head in the last step: the same on all ranks. */
  get sound(): boolean {
    return this.#sound;
  }

  /** Bytes of intermediate results. */
  get computeBytes(): number {
    return Number(this.#parts.ggml.allocatorBytes(this.#allocator, 0));
  }

  /**
   * Computes a step. Where ranks share the blocks, its tokens go in as many groups as there are lanes, which leapfrog:
   * while the sums of one group are on their way, the other is computed.
   *
   * @param embeddings - (embedding length, tokens), the tokens' rows of the embedding
   * @returns whether it was computed to its end, and not stopped by the abort flag of any rank
   * @throws what acquiring a block does
   */
  run(step: Step, embeddings: Float32Array): boolean {
    const groups = this.#prepare(step, embeddings);
    this.#groups = groups;
    this.#aborted = false;
    this.#sound = false;
    this.#failure = undefined;
    this.#held = undefined;
    this.#lastLane = groups.length - 1;
    const steps = this.#segments.flatMap((_, segment) => groups.map((group) => ({ group, segment })));
    const complete = steps.every(({ group, segment }) => this.#runSegment(group, segment));
    const settled = groups.map(({ lane }) => this.#parts.reducer.wait(lane)).every(Boolean);
    this.#sound = complete && settled;
    if (this.#failure !== undefined) throw this.#failure;
    return this.#sound && !this.#aborted;
  }

  /**
   * Copies the results of the last step, row by row in order of its parts, to `target`; but for logits where this rank
   * has not all rows of the head.
   */
  readResults(target: Float32Array): void {
    const { share, hyperparameters } = this.#parts.description;
    const whole = share.vocabulary.count === hyperparameters.vocabularySize;
    for (const { tensor, width, column, outputs, offset, hidden } of this.#results()) {
      if (hidden || whole) this.#read(tensor, column * width, target.subarray(offset, offset + width * outputs));
    }
  }

  /** Where each row of logits of the last step belongs among its results. */
  logitOffsets(): number[] {
    const logits = this.#results().filter(({ hidden }) => !hidden);
    return logits.flatMap(({ offset, outputs, width }) =>
      Array.from({ length: outputs }, (_, i) => offset + i * width),
    );
  }

  /** Copies the logits of the last step, row by row, of the rows of the head that this rank has. */
  readOwnLogits(target: Float32Array): void {
    const { count } = this.#parts.description.share.vocabulary;
    let offset = 0;
    for (const { tensor, column, outputs, hidden } of this.#results()) {
      if (hidden) continue;
      this.#read(tensor, column * count, target.subarray(offset, offset + count * outputs));
      offset += count * outputs;
    }
  }

  /** The results of the last step, in order: in which tensor they are from which column on, and where they belong. */
  #results() {
    const { embeddingLength, vocabularySize } = this.#parts.description.hyperparameters;
    let end = 0;
    return this.#groups.flatMap(({ step, layout, graphs }) =>
      resultsOf(step, layout).map(({ outputs, hidden, column }) => {
        const width = hidden ? embeddingLength : vocabularySize;
        const offset = end;
        end += width * outputs;
        return {
          tensor: hidden ? graphs.results.hidden : graphs.results.logits,
          width,
          column,
          outputs,
          offset,
          hidden,
        };
      }),
    );
  }

  [Symbol.dispose](): void {
    this.#forget(0);
    this.#parts.ggml.freeGraphAllocator(this.#allocator);
    disposeAll(this.#lanes);
  }

  /** Divides a step's tokens among the lanes and fills those. */
  #prepare(step: Step, embeddings: Float32Array): Group[] {
    const { embeddingLength } = this.#parts.description.hyperparameters;
    const pieces = divideStep(step, this.#laneTokens);
    const groups = this.#group(pieces.map((piece) => ({ ...piece, layout: layOut(piece.step) })));
    groups.forEach(({ lane, layout }) => {
      for (const { slot, slots, cells } of layout.shape.spans) {
        for (let i = 0; i < slots; i++) this.#parts.kv.zeroUpTo(slot + i, cells);
      }
      const first = pieces[lane]!.first * embeddingLength;
      this.#lanes[lane]!.fill(layout, embeddings.subarray(first, first + layout.shape.tokens * embeddingLength));
    });
    return groups;
  }

  /** The graphs of all pieces. Where those of one made the buffer grow, those of the others are built again. */
  #group(pieces: readonly (StepPiece & { layout: StepLayout })[]): Group[] {
    const growth = this.#growth;
    const groups = pieces.map(({ step, layout }, lane) => {
      return { lane, step, layout, graphs: this.#graphsFor(lane, layout.shape) };
    });
    return growth === this.#growth ? groups : this.#group(pieces);
  }

  /** Copies values of a result, from the element `first` on. */
  #read(tensor: Tensor | null, first: number, target: Float32Array): void {
    if (tensor === null) return;
    const bytes = new Uint8Array(target.buffer, target.byteOffset, target.byteLength);
    this.#parts.ggml.getTensor(tensor, bytes, 4 * first, bytes.length);
  }

  /** Computes one segment of one group, once the sums it starts from are there. Returns false where those tell to stop. */
  #runSegment({ lane, graphs }: Group, index: number): boolean {
    const { reducer } = this.#parts;
    if (!reducer.wait(lane)) return false;
    const segment = graphs.segments[index];
    if (segment !== undefined) this.#aborted ||= !this.#hold(index) || !this.#compute(segment);
    if (lane === this.#lastLane) this.#letGo();
    if (segment?.reduces) this.#reduce(lane, segment, this.#aborted);
    return true;
  }

  /** Returns whether it was computed to its end. */
  #compute({ builder }: Segment): boolean {
    const { ggml, backend } = this.#parts;
    const started = performance.now();
    const status = ggml.compute(backend.backend, builder.graph);
    this.#computeMs += performance.now() - started;
    if (status === graphStatus.success || status === graphStatus.aborted) return status === graphStatus.success;
    throw new StelliumError("ENGINE_FAILED", { reason: `ggml's status is ${status}` });
  }

  /** Has a segment's block in memory until all lanes have computed it. Returns false where there is none to wait for. */
  #hold(index: number): boolean {
    const block = this.#streamed[index];
    if (block === undefined || block === this.#held) return true;
    if (!this.#acquire(block)) return false;
    this.#held = block;
    return true;
  }

  /** Where rank 0 cannot read a block, all ranks have to stop before it says so: they are to take further steps. */
  #acquire(block: number): boolean {
    const { weights, description } = this.#parts;
    try {
      return weights.window.acquire(block);
    } catch (error) {
      if (description.rank > 0) throw error;
      this.#failure = error;
      return false;
    }
  }

  #letGo(): void {
    if (this.#held !== undefined) this.#parts.weights.window.release();
    this.#held = undefined;
  }

  /** A rank that was stopped says so by its sums, so that all ranks stop at the same block. */
  #reduce(lane: number, segment: Segment, aborted: boolean): void {
    const partial = this.#lanes[lane]!.partialValues(segment.columns);
    if (aborted) partial.fill(Number.NaN);
    else if (segment.empty) partial.fill(0);
    this.#parts.reducer.start(lane, partial);
  }

  /** The graphs of a shape: those built before where possible, since decoding asks for the same shape again and again. */
  #graphsFor(lane: number, shape: StepShape): ShapedGraphs {
    const key = `${lane} ${shapeKey(shape)}`;
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
    const { segments, results } = buildSegments(this.#parts, this.#segments, lane, shape);
    const builders = segments.map(({ builder }) => builder);
    this.#allocate(builders);
    return { segments, results, [Symbol.dispose]: () => disposeAll(builders) };
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

/** Blocks that are computed by one graph: those with nothing between them, neither a sum nor the reading of weights. */
function segmentsOf(blocks: readonly RankBlock[], separate: boolean, weights: Weights): RankBlock[][] {
  const segments: RankBlock[][] = [];
  for (const [i, block] of blocks.entries()) {
    const apart = separate || i === 0 || [i - 1, i].some((index) => weights.window.streams(index));
    if (apart) segments.push([block]);
    else segments.at(-1)!.push(block);
  }
  return segments;
}

function streamedBlock(blocks: readonly RankBlock[], block: RankBlock, { window }: Weights): number | undefined {
  const index = blocks.indexOf(block);
  return window.streams(index) ? index : undefined;
}

function disposeAll(resources: readonly Disposable[]): void {
  for (const resource of resources) resource[Symbol.dispose]();
}
