import type { Tensor } from "../../native/ggml.ts";
import type { Architecture } from "../architecture.ts";
import type { Hyperparameters } from "../hyperparameters.ts";
import type { TensorFinder } from "../tensorFinder.ts";
import {
  addSum,
  type BlockContext,
  type BlockDefinition,
  type BlockFacts,
  blockInput,
  type Flow,
  project,
  type RankBlock,
} from "./block.ts";

/** A gated feed-forward network, added to its input. */
export interface FeedForwardBlock extends BlockFacts {
  readonly kind: "ffn";
  readonly activation: NonNullable<Architecture["activation"]>;
}

/** Finds the weights of a layer's feed-forward block. Throws `MODEL_UNSUPPORTED`. */
export function describeFeedForward(
  finder: TensorFinder,
  architecture: Architecture,
  { embeddingLength, feedForwardLength, norm, residualScale }: Hyperparameters,
  layer: number,
): FeedForwardBlock {
  const unit = "ffn" as const;
  const { activation = "silu", feedForwardNorm = "ffn_norm", parallel = false, fusedGate = false } = architecture;
  const from = finder.layer(layer, architecture);
  const rows = { axis: "rows", unit, each: 1 } as const;
  const columns = { axis: "columns", unit, each: 1 } as const;
  const gated = fusedGate
    ? from.fused(
        "ffn_up",
        ["ffn_gate", "ffn_up"],
        embeddingLength,
        [feedForwardLength, feedForwardLength],
        [rows, rows],
      )
    : ["ffn_gate" as const, "ffn_up" as const].flatMap((stem) =>
        from.projection(stem, embeddingLength, feedForwardLength, rows),
      );
  // Under the norm of attention, if the two are parallel.
  const norms = from.norms(parallel ? "attn_norm" : feedForwardNorm, "post_ffw_norm", embeddingLength, unit);
  const weights = [
    ...norms.weights,
    ...gated,
    ...from.projection("ffn_down", feedForwardLength, embeddingLength, columns),
  ];
  const { before, after } = norms;
  return { kind: "ffn", layer, weights, embeddingLength, norm, before, after, residualScale, activation };
}

/** See `FeedForwardBlock`. */
export const feedForward: BlockDefinition<FeedForwardBlock> = {
  steps: () => [{ does: "compute", append: appendFeedForward }, { does: "sum" }, addSum],
  state: () => undefined,
  // Gate, up, their product, and the quantized copy that the last matrix is multiplied with.
  cost: (_, { ffn }) => ({ workingValues: 4 * ffn.count, computes: "tokens" }),
};

function appendFeedForward(context: BlockContext, block: RankBlock<FeedForwardBlock>, flow: Flow): Flow {
  if (block.empty) return flow;
  const { builder } = context;
  const input = blockInput(context, block, flow.hidden);
  const up = project(context, block, "ffn_up", input);
  const gate = project(context, block, "ffn_gate", input);
  const gated = builder.gated(block.activation, gate, up);
  return withAttention(context, block, flow, project(context, block, "ffn_down", gated));
}

/** Adds what a parallel attention has computed before; in llama.cpp's order, if no sum over ranks comes between. */
function withAttention(context: BlockContext, block: RankBlock<FeedForwardBlock>, flow: Flow, partial: Tensor): Flow {
  const { builder, alone } = context;
  if (flow.partial === null) return { ...flow, partial };
  const plain = block.after === undefined && block.residualScale === 1;
  if (alone && plain) return { ...flow, hidden: builder.add(partial, flow.hidden) };
  return { ...flow, partial: builder.add(partial, flow.partial) };
}
