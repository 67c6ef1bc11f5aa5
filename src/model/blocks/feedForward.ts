import type { Architecture } from "../architecture.ts";
import type { Hyperparameters } from "../hyperparameters.ts";
import type { TensorFinder } from "../tensorFinder.ts";
import {
  addSum,
  type BlockContext,
  type BlockDefinition,
  type BlockFacts,
  type Flow,
  project,
  type RankBlock,
} from "./block.ts";

/** A gated feed-forward network (SwiGLU), after an RMS norm, added to its input. */
export interface FeedForwardBlock extends BlockFacts {
  readonly kind: "ffn";
  readonly rmsEpsilon: number;
}

/** Finds the weights of a layer's feed-forward block. Throws `MODEL_UNSUPPORTED`. */
export function describeFeedForward(
  finder: TensorFinder,
  architecture: Architecture,
  { embeddingLength, feedForwardLength, rmsEpsilon }: Hyperparameters,
  layer: number,
): FeedForwardBlock {
  const unit = "ffn" as const;
  const rows = { axis: "rows", unit, each: 1 } as const;
  const from = finder.layer(layer, architecture);
  const weights = [
    from.vector("ffn_norm.weight", embeddingLength, { axis: "replicated", unit }),
    ...from.projection("ffn_gate", embeddingLength, feedForwardLength, rows),
    ...from.projection("ffn_up", embeddingLength, feedForwardLength, rows),
    ...from.projection("ffn_down", feedForwardLength, embeddingLength, { axis: "columns", unit, each: 1 }),
  ];
  return { kind: "ffn", layer, weights, embeddingLength, rmsEpsilon };
}

/** See `FeedForwardBlock`. */
export const feedForward: BlockDefinition<FeedForwardBlock> = {
  steps: () => [{ does: "compute", append: appendFeedForward }, { does: "sum" }, addSum],
  state: () => undefined,
  // Gate, up, their product, and the quantized copy that the last matrix is multiplied with.
  cost: (_, { ffn }) => ({ workingValues: 4 * ffn.count, computes: "tokens" }),
};

function appendFeedForward(context: BlockContext, block: RankBlock<FeedForwardBlock>, flow: Flow): Flow {
  if (block.empty) return { ...flow, partial: null };
  const { builder } = context;
  const normed = builder.rmsNorm(flow.hidden, context.weight(block, "ffn_norm.weight")!, block.rmsEpsilon);
  const up = project(context, block, "ffn_up", normed);
  const gate = project(context, block, "ffn_gate", normed);
  return { ...flow, partial: project(context, block, "ffn_down", builder.swiglu(gate, up)) };
}
