import type { BatchShape } from "../model/batch.ts";
import type { BlockContext, ComputeStep, Flow, PassResults, RankBlock, StepEnd } from "../model/blocks/block.ts";
import { stepsOf } from "../model/blocks/definitions.ts";
import { GraphBuilder } from "../model/graphBuilder.ts";
import type { Ggml, Tensor } from "../native/ggml.ts";
import type { RankDescription } from "../plan/rankDescription.ts";
import { severalBlocks } from "../trace/spans.ts";
import type { Weights } from "../weights/weights.ts";
import type { KvCache } from "./kvCache.ts";
import type { Lane } from "./lane.ts";

/** A step that computes, and the block it belongs to. */
interface PlannedStep {
  readonly block: RankBlock;
  readonly step: ComputeStep<RankBlock>;
}

/** Steps that are computed by one graph: neighbours with nothing between them, neither a sum nor the reading of weights. */
export interface SegmentPlan {
  readonly steps: readonly PlannedStep[];
  /** Whether all ranks add up after it. */
  readonly sums: boolean;
  /** Index of the block that has to be brought into memory for it, if any. */
  readonly streamed: number | undefined;
  /** Subject of its spans in a trace. */
  readonly subject: number;
}

/** Rules for cutting the steps of all blocks into segments. */
export interface Cutting {
  /** Whether sums separate segments. */
  readonly separate: boolean;
  /** Whether a block has to be brought into memory. */
  streams(block: number): boolean;
}

/**
 * Cuts the steps of all blocks into segments. Resident steps after a sum belong to the next segment, so that the weights
 * of their block may leave memory before the sum.
 */
export function planSegments(blocks: readonly RankBlock[], { separate, streams }: Cutting): SegmentPlan[] {
  const segments: { steps: PlannedStep[]; sums: boolean; owner: number }[] = [];
  let waiting: PlannedStep[] = [];
  for (const [owner, block] of blocks.entries()) {
    for (const step of stepsOf(block)) {
      const last = segments.at(-1);
      if (step.does === "sum") last!.sums = separate;
      else if (step.resident) waiting.push({ block, step });
      else {
        const apart = last === undefined || last.sums || (last.owner !== owner && [last.owner, owner].some(streams));
        if (apart) segments.push({ steps: [...waiting, { block, step }], sums: false, owner });
        else Object.assign(last, { owner }).steps.push(...waiting, { block, step });
        waiting = [];
      }
    }
  }
  segments.at(-1)?.steps.push(...waiting);
  return segments.map(({ steps, sums, owner }) => {
    const owners = new Set(steps.filter(({ step }) => !step.resident).map(({ block }) => block));
    const subject = owners.size === 1 ? owner : severalBlocks;
    return { steps, sums, subject, streamed: streams(owner) ? owner : undefined };
  });
}

/** A graph. What follows from it for the next one is in the lane's tensors. */
export interface Segment {
  readonly builder: GraphBuilder;
  /** Tokens whose partial sums there are. */
  readonly columns: number;
  /** Whether all ranks add up after it. */
  readonly sums: boolean;
  /** Whether this rank has no share of it: its part of the sums is zero. */
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
const nodesPerStep = 40;
/** Additional ones for each span of a pass beyond the first. */
const nodesPerSpan = 12;

/** Builds the graphs of a pass, up to where nothing further is wanted of it. */
export function buildSegments(
  parts: SegmentParts,
  plans: readonly SegmentPlan[],
  lane: Lane,
  shape: BatchShape,
): { segments: Segment[]; results: PassResults } {
  const segments: Segment[] = [];
  let [columns, partial] = [shape.tokens, false];
  for (const { steps, sums } of plans) {
    const perStep = nodesPerStep + nodesPerSpan * (shape.spans.length - 1);
    const builder = new GraphBuilder(parts.ggml, (steps.length + 2) * perStep);
    const context = blockContext(parts, builder, lane, shape);
    const hidden = lane.hidden(builder, columns);
    const start = { hidden, partial: partial ? lane.partial(builder, columns) : null, columns };
    const end = appendSteps(context, steps, start);
    if (end === null || "results" in end) {
      segments.push({ builder, columns, sums: false, empty: false });
      return { segments, results: end?.results ?? noResults };
    }
    keep(builder, lane, end);
    segments.push({ builder, columns: end.columns, sums, empty: end.partial === null });
    columns = end.columns;
    partial = sums || end.partial !== null;
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

/** Leaves in the lane what the next graph starts from. In this order: the hidden states may be those it started from. */
function keep(builder: GraphBuilder, lane: Lane, { hidden, partial, columns }: Flow): void {
  if (partial !== null) builder.expand(builder.copy(partial, lane.partial(builder, columns)));
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
    alone: description.shares.length === 1,
    slotCells: kv.slotCells,
    inputs: lane.inputs(builder, shape),
    cells: (block) => kv.of(block),
    weight: (block, role) => tensorOf(role, block.weights) ?? tensorOf(role, block.resident),
    shared: (role) => tensorOf(role, description.shared),
  };
}
