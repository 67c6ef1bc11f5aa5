import {
  type Batch,
  type BatchLayout,
  type BatchPiece,
  type BatchShape,
  countTokens,
  divideStep,
  layOut,
  resultsOf,
  shapeKey,
} from "../model/batch.ts";
import type { PassResults, RankBlock } from "../model/blocks/block.ts";
import { passedOn, windowsOf } from "../model/blocks/definitions.ts";
import type { Hyperparameters } from "../model/hyperparameters.ts";
import { positionChannels } from "../model/rope.ts";
import type { ComputeBackend } from "../native/backend.ts";
import type { Ggml, Tensor } from "../native/ggml.ts";
import { tensorTypes } from "../native/tensorTypes.ts";
import type { RankDescription } from "../plan/rankDescription.ts";
import { noRecorder, type Recorder } from "../trace/recorder.ts";
import { noRouting, type RoutingRecorder } from "../trace/routing.ts";
import { spanKind } from "../trace/spans.ts";
import type { Weights } from "../weights/weights.ts";
import type { BlockChoice } from "./choices.ts";
import { tokensOfLane } from "./division.ts";
import { ExpertRunner } from "./expertRunner.ts";
import { type BuiltGraphs, computeGraph, GraphCache } from "./graphCache.ts";
import type { KvCache } from "./kvCache.ts";
import { Lane, mostGuesses } from "./lane.ts";
import { OwnLogits } from "./logits.ts";
import type { PartialSums, Reducer } from "./reducer.ts";
import { buildSegments, planSegments, type Segment, type SegmentParts, type SegmentPlan } from "./segments.ts";
import { StreamedBlocks } from "./streamedBlocks.ts";

/** What a forward pass is made of. */
export interface ForwardParts {
  readonly ggml: Ggml;
  readonly backend: ComputeBackend;
  readonly description: RankDescription;
  readonly weights: Weights;
  readonly kv: KvCache;
  /** Most tokens of one pass. */
  readonly batch: number;
  /** Adds up what the ranks computed, behind every block. */
  readonly reducer: Reducer;
  /** One graph for each block, or for all where nothing happens between them. */
  readonly graphs: "whole" | "block";
  readonly recorder?: Recorder | undefined;
  readonly routing?: RoutingRecorder | undefined;
}

/** Graphs kept for further passes of the same shape: those of decoding, and of full and last batches of a prompt. */
const keptShapes = 6;

/** The graphs of one pass shape in one lane. */
interface ShapedGraphs extends BuiltGraphs {
  readonly segments: readonly Segment[];
  readonly results: PassResults;
}

/** The steps of a pass, and the streamed blocks that they need. */
interface PassPlan {
  readonly segments: readonly SegmentPlan[];
  readonly blocks: StreamedBlocks;
}

/**
 * Tokens for each expert from which on experts are computed one by one, each with all its tokens: `ggml_mul_mat_id`
 * multiplies by repacked matrices one token after the other.
 */
const tokensPerExpert = 4;

/**
 * True if experts give the same bits one by one. Of types with blocks of 256 elements they do not: ggml's repacked kernels
 * round activations otherwise when they multiply several tokens at once, and llama.cpp computes experts together.
 */
function sameOneByOne({ blocks }: RankDescription): boolean {
  const matrices = blocks.flatMap(({ experts }) => experts?.matrices ?? []);
  return matrices.every(({ type }) => tensorTypes[type].blockElements < 256);
}

/** The tokens of a pass that go through the blocks together. */
interface Group {
  readonly lane: number;
  readonly graphs: ShapedGraphs;
  readonly step: Batch;
  readonly layout: BatchLayout;
  /** Where its results belong, behind those of the groups before; and its first row of logits, among all. */
  readonly resultsFrom: number;
  readonly logitsFrom: number;
}

/** Computes forward passes. */
export class Forward implements Disposable {
  /** What this rank has of the last pass's logits, where it has not all rows of the head. */
  readonly logits: OwnLogits | undefined;
  readonly #parts: ForwardParts & SegmentParts;
  readonly #experts: ExpertRunner | undefined;
  /** A pass whose experts are computed one by one, and one that multiplies by all chosen ones at once, if it can. */
  readonly #oneByOne: PassPlan;
  readonly #together: PassPlan;
  /** The current one. */
  #plan: PassPlan;
  readonly #lanes: readonly Lane[];
  readonly #windows: readonly number[];
  readonly #recorder: Recorder;
  readonly #routing: RoutingRecorder;
  readonly #graphs: GraphCache<string, ShapedGraphs>;
  /** Where the results of the current pass go. */
  #results: Float32Array = new Float32Array(0);
  #computeMs = 0;
  #aborted = false;
  /** True if ranks were found to have chosen different things, and while they agree before they go on. */
  #differed = false;
  #agrees = false;
  #lastLane = 0;
  #settled = true;
  #sound = false;

  constructor(parts: ForwardParts) {
    const { ggml, backend, reducer, batch, kv } = parts;
    this.#routing = parts.routing ?? noRouting;
    const { stacked, window } = parts.weights;
    const pool = stacked && !sameOneByOne(parts.description) ? undefined : parts.weights.pool;
    // A disk that brings blocks for every step has no time to spare.
    const guesses = pool?.reads === true && parts.weights.windowBytes === 0;
    const described = (pooled: boolean) =>
      withExperts(parts.description, { pooled, recorded: this.#routing !== noRouting }, pooled && guesses);
    const description = described(pool !== undefined);
    const { embeddingLength, perLayerLength, blockCount, vocabularySize } = description.hyperparameters;
    const vocabulary = description.share.vocabulary.count;
    const tokens = tokensOfLane(batch, reducer.lanes);
    this.#experts =
      pool && new ExpertRunner({ ggml, backend, weights: parts.weights, blocks: description.blocks, tokens }, pool);
    this.#parts = { ...parts, description };
    this.logits = description.shares[0]!.vocabulary.count === vocabularySize ? undefined : new OwnLogits(vocabulary);
    this.#recorder = parts.recorder ?? noRecorder;
    const separate = reducer.separates || parts.graphs === "block";
    const planOf = ({ rank, blocks }: RankDescription): PassPlan => {
      const segments = planSegments(blocks, { separate, streams: (block) => window.streams(block) });
      return { segments, blocks: new StreamedBlocks(rank, segments, window, this.#recorder) };
    };
    this.#oneByOne = planOf(description);
    this.#together = stacked && pool !== undefined ? planOf(described(false)) : this.#oneByOne;
    this.#plan = this.#together;
    this.#windows = windowsOf(description.blocks);
    const size = {
      ...{ embeddingLength, perLayerLength, blockCount, tokens, slotCells: kv.slotCells },
      ...{ windows: this.#windows, temperature: description.hyperparameters.temperature },
      channels: positionChannels(description.hyperparameters.rope),
      passed: passedOn(description.blocks, description.share),
    };
    this.#lanes = Array.from({ length: reducer.lanes }, (_, index) => new Lane(ggml, backend.device, size, index));
    this.#graphs = new GraphCache(ggml, backend, keptShapes * reducer.lanes, "intermediate results");
  }

  /** Milliseconds spent in graphs. */
  get computeMs(): number {
    return this.#computeMs;
  }

  /** True if no other rank waits for sums of the last pass from this one, however that ended. */
  get settled(): boolean {
    return this.#settled;
  }

  /** True if no rank was stopped before the head in the last pass: the same on all ranks. */
  get sound(): boolean {
    return this.#sound;
  }

  /** Bytes of intermediate results. */
  get computeBytes(): number {
    return this.#graphs.bytes;
  }

  /**
   * Computes a pass. Where ranks share the blocks, the tokens of a large one go in several groups, which leapfrog: while
   * the sums of one group are on their way, the other is computed. If it turns out that ranks chose different things, all
   * compute it again, and agree on each choice.
   *
   * @param inputs - what enters with each token: see `InputRows`
   * @param results - row by row in order of the pass's parts, filled in on the rank that has the head; see also `logits`
   * @returns whether it was computed to its end, and not stopped by the abort flag of any rank
   * @throws what acquiring a block does
   */
  run(step: Batch, inputs: Float32Array, results: Float32Array): boolean {
    const started = this.#recorder.now();
    this.#settled = false;
    this.#sound = false;
    this.#results = results;
    this.#agrees = false;
    this.#plan = this.#planFor(countTokens(step));
    let complete = this.#pass(step, inputs);
    if (this.#differed) {
      this.#routing.end(false);
      this.#agrees = true;
      complete = this.#pass(step, inputs);
    }
    this.#settled = true;
    this.#sound = complete;
    this.#routing.end(complete && !this.#aborted);
    this.#recorder.end(spanKind.step, started, 0, countTokens(step));
    if (this.#plan.blocks.failure !== undefined) throw this.#plan.blocks.failure;
    return this.#sound && !this.#aborted;
  }

  [Symbol.dispose](): void {
    this.#graphs[Symbol.dispose]();
    this.#experts?.[Symbol.dispose]();
    disposeAll(this.#lanes);
  }

  #planFor(tokens: number): PassPlan {
    const { used = 0, count = 1 } = this.#parts.description.hyperparameters.routing ?? {};
    const each = (tokens * used) / count / this.#parts.reducer.lanes;
    return each < tokensPerExpert ? this.#together : this.#oneByOne;
  }

  /** Computes all blocks. Returns false if the ranks stopped before the end. */
  #pass(step: Batch, inputs: Float32Array): boolean {
    const groups = this.#prepare(step, inputs);
    this.#aborted = false;
    this.#differed = false;
    this.#plan.blocks.begin();
    this.#experts?.pass(countTokens(step));
    this.#lastLane = groups.length - 1;
    const steps = this.#plan.segments.flatMap((_, segment) => groups.map((group) => ({ group, segment })));
    const complete = steps.every(({ group, segment }) => this.#runSegment(group, segment));
    return groups.map(({ lane }) => this.#parts.reducer.wait(lane)).every(Boolean) && complete;
  }

  /** Divides a pass's tokens among the lanes and fills those. */
  #prepare(step: Batch, inputs: Float32Array): Group[] {
    const { embeddingLength, perLayerLength, blockCount } = this.#parts.description.hyperparameters;
    const tokens = countTokens(step);
    const embeddings = inputs.subarray(0, tokens * embeddingLength);
    const perLayer = inputs.subarray(embeddings.length);
    const pieces = divideStep(step, Math.ceil(tokens / this.#parts.reducer.begin(tokens)));
    const groups = this.#group(pieces.map((piece) => ({ ...piece, layout: layOut(piece.step) })));
    this.logits?.begin(groups.flatMap((group) => this.#logitOffsets(group)));
    groups.forEach(({ lane, layout }) => {
      for (const { slot, slots, cells } of layout.shape.spans) {
        for (let i = 0; i < slots; i++) this.#parts.kv.zeroUpTo(slot + i, cells);
      }
      const { first } = pieces[lane]!;
      const columns = (values: Float32Array, width: number) =>
        values.subarray(first * width, (first + layout.shape.tokens) * width);
      const ofLayers = columns(perLayer, perLayerLength * blockCount);
      this.#lanes[lane]!.fill(layout, columns(embeddings, embeddingLength), ofLayers);
    });
    return groups;
  }

  /** The graphs of all pieces. Where those of one made the buffer grow, those of the others are built again. */
  #group(pieces: readonly (BatchPiece & { layout: BatchLayout })[]): Group[] {
    const { growth } = this.#graphs;
    let [resultsFrom, logitsFrom] = [0, 0];
    const groups = pieces.map(({ step, layout }, lane) => {
      const group = { lane, step, layout, graphs: this.#graphsFor(lane, layout.shape), resultsFrom, logitsFrom };
      resultsFrom += resultElements(step, this.#parts.description.hyperparameters);
      logitsFrom += step.reduce((sum, { outputs, hidden }) => sum + (hidden ? 0 : outputs), 0);
      return group;
    });
    return growth === this.#graphs.growth ? groups : this.#group(pieces);
  }

  /** Computes one segment of one group, once the sums it starts from are there. Returns false where those tell to stop. */
  #runSegment(group: Group, index: number): boolean {
    const { segments } = group.graphs;
    if (!this.#parts.reducer.wait(group.lane)) return false;
    this.#differed = !this.#agrees && segments[index - 1]?.check?.agreed === false;
    if (this.#differed) return false;
    const segment = segments[index];
    if (segment?.choice) this.#choose(segment.choice);
    if (segment !== undefined)
      this.#aborted ||= !this.#plan.blocks.hold(index) || !this.#compute(group, segment, index);
    if (group.lane === this.#lastLane) this.#plan.blocks.letGo(index);
    if (segment?.sums) this.#reduce(group.lane, segment, segment.sums, this.#plan.segments[index]!.subject);
    return true;
  }

  /** Also a rank that was stopped takes part where ranks agree. */
  #choose(choice: BlockChoice): void {
    if (!this.#aborted) choice.choose();
    if (this.#agrees) choice.agree(this.#parts.reducer, this.#aborted);
    if (!this.#aborted) choice.record(this.#routing);
  }

  /** Computes a graph. Returns whether that came to its end. */
  #compute(group: Group, segment: Segment, index: number): boolean {
    const { ggml, backend } = this.#parts;
    const { subject } = this.#plan.segments[index]!;
    const { tokens } = group.layout.shape;
    const [started, begun] = [performance.now() - this.#poolWaitMs, this.#recorder.now()];
    const complete = this.#runExperts(segment) && computeGraph(ggml, backend, segment.builder);
    this.#recorder.end(spanKind.compute, begun, subject, tokens);
    this.#computeMs += performance.now() - this.#poolWaitMs - started;
    if (!complete) return false;
    if (index === group.graphs.segments.length - 1) this.#readResults(group);
    return true;
  }

  /**
   * Computes the experts that a segment needs. They are asked for as soon as they are chosen if the pass is one group of
   * tokens; those of several groups are brought into memory one after the other.
   */
  #runExperts({ wanted, experts }: Segment): boolean {
    const asked = this.#lastLane === 0 ? wanted : experts;
    if (asked !== undefined) this.#experts!.begin(asked);
    return experts === undefined || this.#plan.blocks.attempt(() => this.#experts!.run(experts));
  }

  /** Milliseconds that experts were waited for so far, which is no computing. */
  get #poolWaitMs(): number {
    return this.#parts.weights.pool?.waitMs ?? 0;
  }

  /** A rank that was stopped says so by its sums, so that all ranks stop at the same block. */
  #reduce(lane: number, { check, empty }: Segment, partial: PartialSums, subject: number): void {
    if (empty) partial.values.fill(0);
    check?.write();
    if (this.#aborted) partial.values.fill(Number.NaN);
    this.#parts.reducer.start(lane, partial, subject);
  }

  /** Copies a group's results, before the graphs of another group take their place. */
  #readResults(group: Group): void {
    const { hidden: states, logits } = group.graphs.results;
    let row = group.logitsFrom;
    for (const { hidden, outputs, column, offset, width } of this.#resultsOf(group)) {
      if (hidden || this.logits === undefined) {
        const tensor = hidden ? states : logits;
        this.#read(tensor, column * width, this.#results.subarray(offset, offset + width * outputs));
      } else {
        const { count } = this.#parts.description.share.vocabulary;
        this.#read(logits, column * count, this.logits.rows(row, outputs));
        row += outputs;
      }
    }
  }

  /** A group's results, in order, and where they belong. */
  #resultsOf({ step, layout, resultsFrom }: Group) {
    const { embeddingLength, vocabularySize } = this.#parts.description.hyperparameters;
    let end = resultsFrom;
    return resultsOf(step, layout).map((result) => {
      const width = result.hidden ? embeddingLength : vocabularySize;
      const offset = end;
      end += width * result.outputs;
      return { ...result, offset, width };
    });
  }

  /** Where each of a group's rows of logits belongs. */
  #logitOffsets(group: Group): number[] {
    const logits = this.#resultsOf(group).filter(({ hidden }) => !hidden);
    return logits.flatMap(({ offset, outputs, width }) =>
      Array.from({ length: outputs }, (_, i) => offset + i * width),
    );
  }

  /** Copies values of a result, from the element `first` on, where there is such a result and room for it. */
  #read(tensor: Tensor | null, first: number, target: Float32Array): void {
    if (tensor === null || target.length === 0) return;
    const bytes = new Uint8Array(target.buffer, target.byteOffset, target.byteLength);
    this.#parts.ggml.getTensor(tensor, bytes, 4 * first, bytes.length);
  }

  #graphsFor(lane: number, shape: BatchShape): ShapedGraphs {
    const plan = this.#plan === this.#together ? "together" : "one by one";
    return this.#graphs.of(`${lane} ${plan} ${shapeKey(shape, this.#windows)}`, () => {
      const { segments, results } = buildSegments(this.#parts, this.#plan.segments, this.#lanes[lane]!, shape);
      return { segments, results, builders: segments.map(({ builder }) => builder) };
    });
  }
}

/** Values of all results of a pass. */
function resultElements(step: Batch, { embeddingLength, vocabularySize }: Hyperparameters): number {
  return step.reduce((sum, { outputs, hidden }) => sum + outputs * (hidden ? embeddingLength : vocabularySize), 0);
}

function disposeAll(resources: readonly Disposable[]): void {
  for (const resource of resources) resource[Symbol.dispose]();
}

/** Marks the blocks with experts. @param guesses - whether each guesses what the next ones will choose */
function withExperts(
  description: RankDescription,
  facts: Required<Pick<RankBlock, "pooled" | "recorded">>,
  guesses: boolean,
): RankDescription {
  let following: readonly RankBlock[] = [];
  const blocks = description.blocks.toReversed().map((block) => {
    if (block.experts === undefined) return block;
    const marked: RankBlock = { ...block, ...facts, ...(guesses && { guesses: following.slice(0, mostGuesses) }) };
    following = [marked, ...following];
    return marked;
  });
  return { ...description, blocks: blocks.toReversed() };
}
