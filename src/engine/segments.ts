import type { Ggml, Tensor } from "../native/ggml.ts";
import type { RankBlock, RankDescription } from "../plan/rankDescription.ts";
import type { Weights } from "../weights/weights.ts";
import { appendBlock, appendHead, type BlockContext, type BlockResult, type StepResults } from "./blocks.ts";
import { GraphBuilder } from "./graphBuilder.ts";
import type { KvCache } from "./kvCache.ts";
import type { Lane } from "./lane.ts";
import type { StepShape } from "./step.ts";

/** Blocks in one graph. Behind each segment but the last, hidden states and partial sums are in the lane's tensors. */
export interface Segment {
  readonly builder: GraphBuilder;
  /** Tokens whose partial sums there are. */
  readonly columns: number;
  /** Whether its partial sums are to be added up before the next one starts. */
  readonly reduces: boolean;
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

/** Operations and weights of one block, at most. */
const nodesPerBlock = 40;
/** And what each span of a step beyond the first one adds. */
const nodesPerSpan = 12;

/** Builds the graphs of a step, up to where nothing further is wanted of it. */
export function buildSegments(
  parts: SegmentParts,
  segments: readonly (readonly RankBlock[])[],
  lane: Lane,
  shape: StepShape,
): { segments: Segment[]; results: StepResults } {
  const built: Segment[] = [];
  const perBlock = nodesPerBlock + nodesPerSpan * (shape.spans.length - 1);
  let columns = shape.tokens;
  for (const [index, blocks] of segments.entries()) {
    const builder = new GraphBuilder(parts.ggml, blocks.length * perBlock + 2 * perBlock);
    const context = blockContext(parts, builder, lane, shape);
    const start = index === 0 ? lane.hidden(builder, columns) : arrived(builder, lane, columns);
    const end = appendBlocks(context, blocks, start);
    if (blocks.some((block) => endsTokens(block, parts.description))) columns = shape.outputs;
    const result = end?.result;
    built.push({ builder, columns, reduces: result !== undefined, empty: result?.partial === null });
    if (end?.results !== undefined) return { segments: built, results: end.results };
    if (result === undefined) break;
    // In this order: partial sums are computed from hidden states that the residual may overwrite.
    if (result.partial !== null) builder.expand(builder.copy(result.partial, lane.partial(builder, columns)));
    builder.expand(builder.copy(result.residual, lane.hidden(builder, columns)));
  }
  return { segments: built, results: { logits: null, hidden: null } };
}

/** Hidden states behind the block before: what it was given, and what all ranks together added. */
function arrived(builder: GraphBuilder, lane: Lane, columns: number): Tensor {
  return builder.add(lane.partial(builder, columns), lane.hidden(builder, columns));
}

type SegmentEnd = { result: BlockResult; results?: undefined } | { result?: undefined; results: StepResults } | null;

/** Appends blocks one behind the other, or a single one that may be empty. The last one's result is not summed yet. */
function appendBlocks(context: BlockContext, blocks: readonly RankBlock[], start: Tensor): SegmentEnd {
  let hidden = start;
  let result: BlockResult | null = null;
  for (const block of blocks) {
    if (result !== null) hidden = context.builder.add(result.partial!, result.residual);
    if (block.kind === "head") return block.empty ? null : { results: appendHead(context, block, hidden) };
    result = appendBlock(context, block, hidden);
    if (result === null) return null;
  }
  return result === null ? null : { result };
}

/** Behind the last attention block only the tokens with outputs are left. */
function endsTokens(block: RankBlock, { hyperparameters }: RankDescription): boolean {
  return block.kind === "attention" && block.layer === hyperparameters.blockCount - 1;
}

function blockContext(
  { description, weights, kv }: SegmentParts,
  builder: GraphBuilder,
  lane: Lane,
  shape: StepShape,
): BlockContext {
  return {
    builder,
    hyperparameters: description.hyperparameters,
    shape,
    inputs: lane.inputs(builder, shape),
    kv,
    ropeFactors: description.ropeFactors ? weights.get(description.ropeFactors.tensor.name) : null,
    weight(block, role) {
      const found = block.weights.find((weight) => weight.role === role);
      return found ? weights.get(found.tensor.name) : null;
    },
  };
}
