import type { BatchShape } from "../model/batch.ts";
import {
  type BlockContext,
  type BlockStep,
  type ChooseStep,
  type ComputeStep,
  type Flow,
  joinParts,
  joinWhole,
  type PassResults,
  type RankBlock,
  type StepEnd,
} from "../model/blocks/block.ts";
import { costOf, stepsOf } from "../model/blocks/definitions.ts";
import { GraphBuilder } from "../model/graphBuilder.ts";
import type { RankShare } from "../model/split.ts";
import type { Ggml, Tensor } from "../native/ggml.ts";
import type { RankDescription } from "../plan/rankDescription.ts";
import { severalBlocks } from "../trace/spans.ts";
import type { Weights } from "../weights/weights.ts";
import type { KvCache } from "./kvCache.ts";
import type { Lane } from "./lane.ts";
import type { PartialSums } from "./reducer.ts";

/** A step that computes, and the block it belongs to. */
interface PlannedStep {
  readonly block: RankBlock;
  readonly step: ComputeStep<RankBlock>;
}

/** A choice, and the block it belongs to. */
interface PlannedChoice {
  readonly block: RankBlock;
  readonly step: ChooseStep<RankBlock>;
}

/** Steps that are computed by one graph: neighbours with nothing between them, no sum, no choice and no reading of weights. */
export interface SegmentPlan {
  /** What is chosen before it, if anything. */
  readonly choice: PlannedChoice | undefined;
  readonly steps: readonly PlannedStep[];
  /** Values per token of the `partial` that it leaves, if they are others than those of the hidden states. */
  readonly leaves: number | undefined;
  /** True if all ranks add up after it. */
  readonly sums: boolean;
  /** Index of the block that has to be brought into memory for it, if any. */
  readonly streamed: number | undefined;
  /** Subject of its spans in a trace. */
  readonly subject: number;
}

/** Rules for cutting the steps of all blocks into segments. */
export interface Cutting {
  /** True if sums separate segments. */
  readonly separate: boolean;
  /** True if a block has to be brought into memory. */
  streams(block: number): boolean;
}

/** Cuts the steps of all blocks into segments. */
export function planSegments(blocks: readonly RankBlock[], cutting: Cutting): SegmentPlan[] {
  const planner = new SegmentPlanner(cutting);
  for (const [owner, block] of blocks.entries()) {
    for (const step of stepsOf(block)) planner.add(owner, block, step);
  }
  return planner.end();
}

/** A segment that further steps may join. */
interface OpenSegment {
  readonly choice: PlannedChoice | undefined;
  readonly steps: PlannedStep[];
  owner: number;
  leaves: number | undefined;
  sums: boolean;
}

/**
 * Takes steps in order. Resident ones wait for the next segment, so that the weights of their block may leave memory
 * before a sum that they follow.
 */
class SegmentPlanner {
  readonly #cutting: Cutting;
  readonly #segments: OpenSegment[] = [];
  #waiting: PlannedStep[] = [];
  #choice: PlannedChoice | undefined;

  constructor(cutting: Cutting) {
    this.#cutting = cutting;
  }

  add(owner: number, block: RankBlock, step: BlockStep<RankBlock>): void {
    if (step.does === "compute") {
      this.#waiting.push({ block, step });
      if (!step.resident) this.#place(owner);
      return;
    }
    if (this.#waiting.length > 0) this.#place(owner);
    if (step.does === "sum") this.#segments.at(-1)!.sums = this.#cutting.separate;
    else this.#choice = { block, step };
  }

  end(): SegmentPlan[] {
    this.#segments.at(-1)?.steps.push(...this.#waiting);
    return this.#segments.map(({ choice, steps, leaves, sums, owner }) => {
      const owners = new Set(steps.filter(({ step }) => !step.resident).map(({ block }) => block));
      const subject = owners.size > 1 ? severalBlocks : owner;
      return { choice, steps, leaves, sums, subject, streamed: this.#cutting.streams(owner) ? owner : undefined };
    });
  }

  /** Puts the waiting steps into the last segment, or a new one. */
  #place(owner: number): void {
    const last = this.#segments.at(-1);
    const { leaves } = this.#waiting.at(-1)!.step;
    if (last === undefined || this.#choice !== undefined || last.sums || this.#streamsBetween(last.owner, owner)) {
      this.#segments.push({ choice: this.#choice, steps: this.#waiting, owner, leaves, sums: false });
    } else {
      last.steps.push(...this.#waiting);
      Object.assign(last, { owner, leaves });
    }
    this.#waiting = [];
    this.#choice = undefined;
  }

  #streamsBetween(from: number, to: number): boolean {
    return from !== to && [from, to].some((block) => this.#cutting.streams(block));
  }
}

/** A graph. What follows from it for the next one is in the lane's tensors. */
export interface Segment {
  readonly builder: GraphBuilder;
  /** Chooses what the graph works on, if its block does that. */
  readonly choose: (() => void) | undefined;
  /** What all ranks add up after it, if they do. */
  readonly sums: PartialSums | undefined;
  /** True if this rank has no share of it: its part of the sums is zero. */
  readonly empty: boolean;
}

/** What segments are built from. */
export interface SegmentParts {
  readonly ggml: Ggml;
  readonly description: RankDescription;
  readonly weights: Weights;
  readonly kv: KvCache;
}

/** Operations and weights of one step, at most. */
const nodesPerStep = 60;
/** Additional ones for each span of a pass beyond the first. */
const nodesPerSpan = 12;

/** Builds the graphs of a pass, up to where nothing further is wanted of it. */
export function buildSegments(
  parts: SegmentParts,
  plans: readonly SegmentPlan[],
  lane: Lane,
  shape: BatchShape,
): { segments: Segment[]; results: PassResults } {
  const { embeddingLength } = parts.description.hyperparameters;
  const segments: Segment[] = [];
  let carried: Carried = { columns: shape.tokens, leaves: embeddingLength, partial: false, kept: [] };
  for (const { choice, steps, sums, leaves: own } of plans) {
    const perStep = nodesPerStep + nodesPerSpan * (shape.spans.length - 1);
    const builder = new GraphBuilder(parts.ggml, (steps.length + 2) * perStep);
    const context = blockContext(parts, builder, lane, shape);
    const chosen = choice && lane.chosen(builder, choice.step, carried.columns);
    const choose = choice && choosing(lane, choice, carried);
    const end = appendSteps(context, steps, { ...takeUp(builder, lane, carried), chosen });
    if (end === null || "results" in end) {
      segments.push({ builder, choose, sums: undefined, empty: false });
      return { segments, results: end?.results ?? noResults };
    }
    const { columns, partial } = end;
    const leaves = own ?? embeddingLength;
    const kept = end.kept === undefined ? [] : keptBy(steps.at(-1)!.block, parts.description.share);
    leaveBehind(builder, lane, end, leaves, kept);
    const partialSums = sums ? lane.partialSums(leaves, columns, own !== undefined) : undefined;
    segments.push({ builder, choose, sums: partialSums, empty: partial === null });
    carried = { columns, leaves, partial: sums || partial !== null, kept };
  }
  return { segments, results: noResults };
}

const noResults: PassResults = { logits: null, hidden: null };

function appendSteps(context: BlockContext, steps: readonly PlannedStep[], start: Flow): StepEnd {
  let flow = start;
  for (const { block, step } of steps) {
    const end = step.append(context, block, flow);
    if (end === null || "results" in end) return end;
    flow = end;
  }
  return flow;
}

/** What a lane's tensors hold between two graphs. */
interface Carried {
  readonly columns: number;
  /** Values per token of `partial`, and whether there is one. */
  readonly leaves: number;
  readonly partial: boolean;
  /** Values per token of each tensor that the block has kept. */
  readonly kept: readonly number[];
}

/** Lets a block choose from what a lane's tensors hold; undefined if the rank has no share of it. */
function choosing(lane: Lane, { block, step }: PlannedChoice, { columns, leaves }: Carried): (() => void) | undefined {
  if (block.empty) return undefined;
  const [partial, chosen] = [lane.partialValues(leaves * columns), lane.chosenValues(step, columns)];
  return () => step.choose(block, partial, chosen);
}

function keptBy(block: RankBlock, share: RankShare): readonly number[] {
  return costOf(block, share).kept ?? [];
}

/** The flow that a graph starts from. */
function takeUp(builder: GraphBuilder, lane: Lane, { columns, leaves, partial, kept }: Carried): Flow {
  return {
    hidden: lane.hidden(builder, columns),
    partial: partial ? lane.partial(builder, leaves, columns) : null,
    columns,
    kept: kept.length > 0 ? lane.kept(builder, kept, columns) : undefined,
  };
}

/** Leaves in the lane what the next graph starts from. In this order: the hidden states may be those it started from. */
function leaveBehind(builder: GraphBuilder, lane: Lane, flow: Flow, leaves: number, kept: readonly number[]): void {
  const { hidden, partial, columns } = flow;
  if (partial !== null) builder.expand(builder.copy(partial, lane.partial(builder, leaves, columns)));
  const room = kept.length > 0 ? lane.kept(builder, kept, columns) : [];
  for (const [i, tensor] of room.entries()) builder.expand(builder.copy(flow.kept![i]!, tensor));
  builder.expand(builder.copy(hidden, lane.hidden(builder, columns)));
}

function blockContext(
  { description, weights, kv }: SegmentParts,
  builder: GraphBuilder,
  lane: Lane,
  shape: BatchShape,
): BlockContext {
  const tensorOf = (role: string, among: readonly { role: string; name: string }[]): Tensor | null => {
    const found = among.find((weight) => weight.role === role);
    return found ? weights.get(found.name) : null;
  };
  return {
    builder,
    shape,
    share: description.share,
    join: description.shares.length === 1 ? joinWhole : joinParts,
    slotCells: kv.slotCells,
    inputs: lane.inputs(builder, shape),
    cells: (block) => kv.of(block),
    weight: (block, role) => tensorOf(role, block.weights) ?? tensorOf(role, block.resident),
    shared: (role) => tensorOf(role, description.shared),
  };
}
