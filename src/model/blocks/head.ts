import type { Tensor } from "../../native/ggml.ts";
import type { Architecture } from "../architecture.ts";
import type { Hyperparameters } from "../hyperparameters.ts";
import { wholeWeight } from "../split.ts";
import type { TensorFinder } from "../tensorFinder.ts";
import {
  type BlockContext,
  type BlockDefinition,
  type BlockFacts,
  blockInput,
  type Flow,
  type RankBlock,
  type StepEnd,
} from "./block.ts";

/** The last norm and the output matrix. */
export interface HeadBlock extends BlockFacts {
  readonly kind: "head";
  /** Factor on the logits, and what they are capped at softly after that; 0: not. */
  readonly logitScale: number;
  readonly logitSoftcap: number;
}

/** A model without `output.weight` multiplies by its embedding instead: a tied head. */
function describeHead(finder: TensorFinder, _: Architecture, h: Hyperparameters, layer: number): HeadBlock {
  const { embeddingLength, vocabularySize, norm, logitScale, logitSoftcap } = h;
  const unit = "vocabulary" as const;
  const shape = [embeddingLength, vocabularySize];
  const output = finder.findOptional("output.weight", shape) ?? finder.find("token_embd.weight", shape);
  const last = finder.find("output_norm.weight", [embeddingLength], "F32");
  const weights = [
    wholeWeight({ role: "output_norm.weight", kind: "vector", tensor: last, split: { axis: "replicated", unit } }),
    wholeWeight({ role: "output.weight", kind: "matrix", tensor: output, split: { axis: "rows", unit, each: 1 } }),
  ];
  const facts = { embeddingLength, norm, before: "output_norm.weight", after: undefined, residualScale: 1 };
  return { kind: "head", layer, weights, ...facts, logitScale, logitSoftcap };
}

/** See `HeadBlock`. */
export const head: BlockDefinition<HeadBlock> = {
  describe: describeHead,
  steps: () => [{ does: "compute", append: appendHead }],
  state: () => undefined,
  cost: () => ({ workingValues: 0, computes: "outputs" }),
};

function appendHead(context: BlockContext, block: RankBlock<HeadBlock>, { hidden }: Flow): StepEnd {
  if (block.empty) return null;
  const { builder, shape } = context;
  const normed = blockInput(context, block, hidden);
  const count = shape.outputs - shape.hidden;
  const input = builder.lastColumns(normed, block.embeddingLength, shape.outputs, count);
  const logits = () => builder.output(logitsOf(context, block, input));
  return {
    results: {
      hidden: shape.hidden === 0 ? null : builder.output(normed),
      logits: count === 0 ? null : logits(),
    },
  };
}

function logitsOf(context: BlockContext, block: RankBlock<HeadBlock>, input: Tensor): Tensor {
  const { builder } = context;
  const logits = builder.scale(builder.matMul(context.weight(block, "output.weight")!, input), block.logitScale);
  return builder.softcap(logits, block.logitSoftcap);
}
