import type { Architecture } from "../architecture.ts";
import { type Hyperparameters, keepsLast } from "../hyperparameters.ts";
import type { TensorFinder } from "../tensorFinder.ts";
import {
  addSum,
  type BlockContext,
  type BlockDefinition,
  type BlockFacts,
  blockInput,
  type Flow,
  gatedNetwork,
  joinParts,
  project,
  type RankBlock,
} from "./block.ts";

/** A gated feed-forward network, added to its input. */
export interface FeedForwardBlock extends BlockFacts {
  readonly kind: "ffn";
  /** Columns of each unit. */
  readonly columns: number;
  /** True if only tokens with outputs get here: no layer after it keeps keys. */
  readonly last: boolean;
  readonly activation: NonNullable<Architecture["activation"]>;
}

function describeFeedForward(
  finder: TensorFinder,
  architecture: Architecture,
  { embeddingLength, feedForwardLength: units, feedForwardLengths, cellLayers, norm, residualScale }: Hyperparameters,
  layer: number,
): FeedForwardBlock {
  const unit = "ffn" as const;
  const { activation = "silu", feedForwardNorm = "ffn_norm", parallel = false, fusedGate = false } = architecture;
  const from = finder.layer(layer, architecture);
  const length = feedForwardLengths[layer]!;
  const rows = { outputs: length, split: { axis: "rows", unit, each: length / units } } as const;
  const columns = { outputs: embeddingLength, split: { axis: "columns", unit, each: length / units } } as const;
  const stems = ["ffn_gate", "ffn_up"] as const;
  const gated = fusedGate
    ? from.fused(
        "ffn_up",
        embeddingLength,
        stems.map((stem) => ({ stem, ...rows })),
      )
    : stems.flatMap((stem) => from.projection(stem, embeddingLength, rows));
  // Under the norm of attention, if the two are parallel.
  const norms = from.norms(parallel ? "attn_norm" : feedForwardNorm, "post_ffw_norm", embeddingLength, unit);
  const weights = [...norms.weights, ...gated, ...from.projection("ffn_down", length, columns)];
  const { before, after } = norms;
  const last = keepsLast({ cellLayers }, layer);
  const facts = { columns: length / units, last, embeddingLength, norm, before, after, residualScale, activation };
  return { kind: "ffn", layer, weights, ...facts };
}

/** See `FeedForwardBlock`. */
export const feedForward: BlockDefinition<FeedForwardBlock> = {
  describe: describeFeedForward,
  steps: () => [{ does: "compute", append: appendFeedForward }, { does: "sum" }, addSum],
  state: () => undefined,
  // Gate, up, their product, and the quantized copy that the last matrix is multiplied with.
  cost: ({ columns, last }, { ffn }) => ({
    workingValues: 4 * ffn.count * columns,
    computes: last ? "outputs" : "tokens",
  }),
};

function appendFeedForward(context: BlockContext, block: RankBlock<FeedForwardBlock>, flow: Flow): Flow {
  if (block.empty) return flow;
  const { builder } = context;
  const input = blockInput(context, block, flow.hidden);
  const own = gatedNetwork(builder, block.activation, input, (stem, to) => project(context, block, stem, to));
  if (flow.partial === null) return { ...flow, partial: own };
  // What a norm or a factor is yet to change has to be summed first.
  const join = block.after === undefined && block.residualScale === 1 ? context.join : joinParts;
  return join(builder, flow, own);
}
