import type { GgufTensor } from "../../weights/gguf/model.ts";
import type { Hyperparameters } from "../hyperparameters.ts";
import { wholeWeight } from "../split.ts";
import type { TensorFinder } from "../tensorFinder.ts";
import type { BlockContext, BlockDefinition, BlockFacts, Flow, RankBlock, StepEnd } from "./block.ts";

/** The last norm and the output matrix. */
export interface HeadBlock extends BlockFacts {
  readonly kind: "head";
  readonly rmsEpsilon: number;
}

/**
 * Finds the weights of the head. A model without `output.weight` multiplies by its embedding instead: a tied head.
 * Throws `MODEL_UNSUPPORTED`.
 */
export function describeHead(finder: TensorFinder, h: Hyperparameters, embedding: GgufTensor): HeadBlock {
  const { embeddingLength, vocabularySize, rmsEpsilon, blockCount } = h;
  const unit = "vocabulary" as const;
  const output = finder.findOptional("output.weight", [embeddingLength, vocabularySize]) ?? embedding;
  const norm = finder.find("output_norm.weight", [embeddingLength], "F32");
  const weights = [
    wholeWeight({ role: "output_norm.weight", kind: "vector", tensor: norm, split: { axis: "replicated", unit } }),
    wholeWeight({ role: "output.weight", kind: "matrix", tensor: output, split: { axis: "rows", unit, each: 1 } }),
  ];
  return { kind: "head", layer: blockCount, weights, embeddingLength, rmsEpsilon };
}

/** See `HeadBlock`. */
export const head: BlockDefinition<HeadBlock> = {
  steps: () => [{ does: "compute", append: appendHead }],
  state: () => undefined,
  cost: () => ({ workingValues: 0, computes: "outputs" }),
};

function appendHead(context: BlockContext, block: RankBlock<HeadBlock>, { hidden }: Flow): StepEnd {
  if (block.empty) return null;
  const { builder, shape } = context;
  const normed = builder.rmsNorm(hidden, context.weight(block, "output_norm.weight")!, block.rmsEpsilon);
  const count = shape.outputs - shape.hidden;
  const input = builder.lastColumns(normed, block.embeddingLength, shape.outputs, count);
  const logits = () => builder.output(builder.matMul(context.weight(block, "output.weight")!, input));
  return {
    results: {
      hidden: shape.hidden === 0 ? null : builder.output(normed),
      logits: count === 0 ? null : logits(),
    },
  };
}
