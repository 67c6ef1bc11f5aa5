import type { Tensor } from "../../native/ggml.ts";
import type { Architecture } from "../architecture.ts";
import { type Hyperparameters, keepsLast } from "../hyperparameters.ts";
import type { Weight } from "../split.ts";
import type { TensorFinder } from "../tensorFinder.ts";
import {
  type BlockContext,
  type BlockDefinition,
  type BlockFacts,
  type Flow,
  project,
  type RankBlock,
} from "./block.ts";

/**
 * The end of a layer: adds what the tokens' embeddings for this layer make of the hidden states, if there are such, and
 * scales the hidden states, if there is a factor. Every rank computes all of it, which is sooner done than a sum.
 */
export interface PerLayerBlock extends BlockFacts {
  readonly kind: "perLayer";
  /** Values of a token's embedding for the layer; 0: there is none. */
  readonly length: number;
  /** True if only tokens with outputs get here: no layer after it keeps keys. */
  readonly last: boolean;
}

const scaleRole = "layer_output_scale.weight";
const everywhere = { axis: "replicated" } as const;

function describePerLayer(
  finder: TensorFinder,
  architecture: Architecture,
  { embeddingLength, perLayerLength: length, cellLayers, norm }: Hyperparameters,
  layer: number,
): PerLayerBlock {
  const from = finder.layer(layer, architecture);
  const after = "post_norm.weight";
  const added = (): Weight[] => [
    from.matrix("inp_gate.weight", embeddingLength, length, everywhere),
    from.matrix("proj.weight", length, embeddingLength, everywhere),
    from.vector(after, embeddingLength, everywhere),
  ];
  const scale = from.has(scaleRole) ? [from.vector(scaleRole, 1, everywhere, true)] : [];
  const weights = [...(length === 0 ? [] : added()), ...scale];
  const facts = { embeddingLength, norm, before: undefined, after: length === 0 ? undefined : after, residualScale: 1 };
  const last = keepsLast({ cellLayers }, layer);
  return { kind: "perLayer", layer, weights, length, last, ...facts };
}

/** See `PerLayerBlock`. */
export const perLayer: BlockDefinition<PerLayerBlock> = {
  describe: describePerLayer,
  steps: ({ length }) => [{ does: "compute", resident: length === 0, append: appendPerLayer }],
  state: () => undefined,
  // The gate, its product, and what is added.
  cost: ({ length, embeddingLength, last }) => ({
    workingValues: length === 0 ? 0 : 2 * length + embeddingLength,
    computes: last ? "outputs" : "tokens",
  }),
};

function appendPerLayer(context: BlockContext, block: RankBlock<PerLayerBlock>, flow: Flow): Flow {
  const hidden = block.length === 0 ? flow.hidden : withEmbedding(context, block, flow);
  const scale = context.weight(block, scaleRole);
  return { ...flow, hidden: scale === null ? hidden : context.builder.multiply(hidden, scale) };
}

function withEmbedding(context: BlockContext, block: RankBlock<PerLayerBlock>, { hidden, columns }: Flow): Tensor {
  const { builder, inputs } = context;
  const embedding = inputs.perLayer(block.layer, columns);
  const gated = builder.gated("gelu", project(context, block, "inp_gate", hidden), embedding);
  const own = builder.norm(project(context, block, "proj", gated), context.weight(block, block.after!)!, block.norm);
  return builder.add(hidden, own);
}
