import type { BatchShape } from "../model/batch.ts";
import {
  type BlockContext,
  type BlockStep,
  type ChooseStep,
  type ComputeStep,
  type ExpertsStep,
  type Flow,
  joinParts,
  joinWhole,
  type PassResults,
  type RankBlock,
  type RoutedOutputs,
  type StepEnd,
} from "../model/blocks/block.ts";
import { costOf, stepsOf } from "../model/blocks/definitions.ts";
import { GraphBuilder } from "../model/graphBuilder.ts";
import type { RankShare } from "../model/split.ts";
import { type Ggml, required, type Tensor } from "../native/ggml.ts";
import type { RankDescription } from "../plan/rankDescription.ts";
import { severalBlocks } from "../trace/spans.ts";
import type { Weights } from "../weights/weights.ts";
import { BlockChoice, type ChoiceCheck, checkedValues } from "./choices.ts";
import type { ExpertWork } from "./expertRunner.ts";
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
  /** True if it is made from a sum. */
  readonly fromSum: boolean;
}

/** Experts that are computed one by one, and the block they belong to. */
interface PlannedExperts {
  readonly block: RankBlock;
  readonly step: ExpertsStep<RankBlock>;
}

/** Steps that are computed by one graph: neighbours with nothing between them, no sum, no choice and no reading of weights. */
export interface SegmentPlan {
  /** The choice that precedes it, if any. */
  readonly choice: PlannedChoice | undefined;
  /** The experts that this choice is of, if they are computed one by one: before this segment, or before the next one. */
  readonly wanted: PlannedExperts | undefined;
  /** The experts that are computed before it, if any. */
  readonly experts: PlannedExperts | undefined;
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
  readonly experts: PlannedExperts | undefined;
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
  #experts: PlannedExperts | undefined;
  #summed = false;

  constructor(cutting: Cutting) {
    this.#cutting = cutting;
  }

  add(owner: number, block: RankBlock, step: BlockStep<RankBlock>): void {
    const fromSum = this.#summed;
    this.#summed = step.does === "sum";
    if (step.does === "compute") {
      this.#waiting.push({ block, step });
      if (!step.resident) this.#place(owner);
      return;
    }
    if (this.#waiting.length > 0) this.#place(owner);
    if (step.does === "sum") this.#segments.at(-1)!.sums = this.#cutting.separate;
    else if (step.does === "choose") this.#choice = { block, step, fromSum };
    else this.#experts = { block, step };
  }

  end(): SegmentPlan[] {
    this.#segments.at(-1)?.steps.push(...this.#waiting);
    return this.#segments.map(({ choice, experts, steps, leaves, sums, owner }, i) => {
      const owners = new Set(steps.filter(({ step }) => !step.resident).map(({ block }) => block));
      const subject = owners.size > 1 ? severalBlocks : owner;
      return {
        choice,
        wanted: choice && (experts ?? this.#segments[i + 1]?.experts),
        experts,
        steps,
        leaves,
        sums,
        subject,
        streamed: this.#cutting.streams(owner) ? owner : undefined,
      };
    });
  }

  /** Puts the waiting steps into the last segment, or a new one. */
  #place(owner: number): void {
    const last = this.#segments.at(-1);
    const { leaves } = this.#waiting.at(-1)!.step;
    if (
      last === undefined ||
      this.#choice !== undefined ||
      this.#experts !== undefined ||
      last.sums ||
      this.#streamsBetween(last.owner, owner)
    ) {
      this.#segments.push({
        choice: this.#choice,
        experts: this.#experts,
        steps: this.#waiting,
        owner,
        leaves,
        sums: false,
      });
    } else {
      last.steps.push(...this.#waiting);
      Object.assign(last, { owner, leaves });
    }
    this.#waiting = [];
    this.#choice = undefined;
    this.#experts = undefined;
  }

  #streamsBetween(from: number, to: number): boolean {
    return from !== to && [from, to].some((block) => this.#cutting.streams(block));
  }
}

/** A graph. What follows from it for the next one is in the lane's tensors. */
export interface Segment {
  readonly builder: GraphBuilder;
  /** What the graph works on, if its block chooses that. */
  readonly choice: BlockChoice | undefined;
  /** See `SegmentPlan`; undefined also if the rank has no share of them. */
  readonly wanted: ExpertWork | undefined;
  readonly experts: ExpertWork | undefined;
  /** What all ranks add up after it, if they do. */
  readonly sums: PartialSums | undefined;
  /** Whether the ranks chose alike before, if that goes with the sums. */
  readonly check: ChoiceCheck | undefined;
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
  let carried: Carried = { columns: shape.tokens, leaves: embeddingLength, partial: false, kept: [], guesses: 0 };
  let unchecked: BlockChoice | undefined;
  for (const { choice: planned, steps, sums, leaves: own, ...plan } of plans) {
    const builder = new GraphBuilder(parts.ggml, nodesOf(steps, shape));
    const context = blockContext(parts, builder, lane, shape);
    const counts = planned?.step ?? (plan.experts && chosenFor(plan.experts.step));
    const chosen = counts && lane.chosen(builder, counts, carried.columns);
    const choice = planned && choiceOf(parts.description.rank, lane, planned, carried);
    const work = (of: PlannedExperts | undefined) => of && workOf(lane, of, carried);
    const experts = { wanted: work(plan.wanted), experts: work(plan.experts) };
    if (choice?.mayDiffer) unchecked = choice;
    const end = appendSteps(context, steps, { ...takeUp(builder, lane, carried), chosen });
    if (end === null || "results" in end) {
      segments.push({ builder, choice, ...experts, sums: undefined, check: undefined, empty: false });
      return { segments, results: end?.results ?? noResults };
    }
    const { columns, partial } = end;
    const leaves = own ?? embeddingLength;
    const kept = end.kept === undefined ? [] : keptBy(steps.at(-1)!.block, parts.description.share);
    leaveBehind(builder, lane, end, leaves, kept);
    const values = leaves * columns;
    const exact = own !== undefined;
    const partialSums = sums ? lane.partialSums(unchecked ? checkedValues(values) : values, exact) : undefined;
    const check = partialSums && unchecked?.checkIn(partialSums.values, values);
    segments.push({ builder, choice, ...experts, sums: partialSums, check, empty: partial === null });
    if (sums) unchecked = undefined;
    carried = { columns, leaves, partial: sums || partial !== null, kept, guesses: end.routed?.guessed.length ?? 0 };
  }
  return { segments, results: noResults };
}

/** Nodes of a graph, at most. */
function nodesOf(steps: readonly PlannedStep[], { spans }: BatchShape): number {
  const own = steps.reduce((sum, { step }) => sum + (step.nodes ?? nodesPerStep), 2 * nodesPerStep);
  return own + (steps.length + 2) * nodesPerSpan * (spans.length - 1);
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
  /** Number of later blocks for which the block has guessed what they will choose. */
  readonly guesses: number;
}

/** A block's choice from what a lane's tensors hold. */
function choiceOf(rank: number, lane: Lane, planned: PlannedChoice, { columns, leaves }: Carried): BlockChoice {
  const partial = lane.partialValues(leaves * columns);
  return new BlockChoice({ ...planned, rank, partial, chosen: lane.chosenValues(planned.step, columns) });
}

/** The chosen experts of a block; undefined if the rank has no share of them. */
function workOf(lane: Lane, { block, step }: PlannedExperts, carried: Carried): ExpertWork | undefined {
  if (block.experts!.matrices.length === 0) return undefined;
  const { columns, guesses } = carried;
  return {
    ...{ block, step, lane, ids: lane.chosenValues(chosenFor(step), columns).ids },
    guessed: { blocks: block.guesses?.slice(0, guesses) ?? [], ids: lane.guessedValues(guesses, step.used, columns) },
  };
}

/** Ids and weights of the experts of each token. */
function chosenFor({ used }: ExpertsStep<RankBlock>): Pick<ChooseStep<RankBlock>, "ids" | "weights"> {
  return { ids: used, weights: used };
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
  // There may be room for more than was kept: for what comes between the two graphs.
  for (const [i, tensor] of flow.kept?.entries() ?? []) builder.expand(builder.copy(tensor, room[i]!));
  if (flow.routed) leaveChoice(builder, lane, flow.routed, columns);
  builder.expand(builder.copy(hidden, lane.hidden(builder, columns)));
}

function leaveChoice(builder: GraphBuilder, lane: Lane, routed: RoutedOutputs, columns: number): void {
  const { ids, weights, guessed, used } = routed;
  const room = lane.chosen(builder, { ids: used, weights: used }, columns);
  builder.expand(builder.copy(ids, room.ids));
  builder.expand(builder.copy(weights, room.weights));
  for (const [i, guess] of guessed.entries()) {
    builder.expand(builder.copy(guess, lane.guessed(builder, i, used, columns)));
  }
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
    experts: (block, role) => required(tensorOf(role, block.experts?.matrices ?? []), "finding experts"),
    shared: (role) => tensorOf(role, description.shared),
  };
}
