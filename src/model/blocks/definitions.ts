import type { Architecture } from "../architecture.ts";
import type { CellState } from "../cells.ts";
import type { Hyperparameters } from "../hyperparameters.ts";
import type { RankShare } from "../split.ts";
import type { TensorFinder } from "../tensorFinder.ts";
import { attention } from "./attention.ts";
import type { Block, BlockCost, BlockDefinition, BlockKind, BlockStep, RankBlock } from "./block.ts";
import { experts } from "./experts.ts";
import { feedForward } from "./feedForward.ts";
import { head } from "./head.ts";
import { latentAttention } from "./latentAttention.ts";
import { perLayer } from "./perLayer.ts";

type Definitions = { readonly [K in BlockKind]: BlockDefinition<Extract<Block, { kind: K }>> };

/** All kinds of blocks. A new one is a file of its own, an entry here, and its name in `Block`. */
const definitions: Definitions = {
  attention,
  latentAttention,
  ffn: feedForward,
  experts,
  perLayer,
  head,
};

function definitionOf({ kind }: Pick<Block, "kind">): BlockDefinition<Block> {
  return definitions[kind] as BlockDefinition<Block>;
}

/** Finds the weights of a layer's block, and the facts about it. Throws `MODEL_UNSUPPORTED`. */
export function describeBlock(
  kind: BlockKind,
  finder: TensorFinder,
  architecture: Architecture,
  h: Hyperparameters,
  layer: number,
): Block {
  return definitionOf({ kind }).describe(finder, architecture, h, layer);
}

/** Steps of a block, in order: the same on all ranks. */
export function stepsOf(block: RankBlock): readonly BlockStep<Block>[] {
  return definitionOf(block).steps(block);
}

/** The keys and values that a block keeps for later passes; undefined if it keeps nothing. */
export function stateOf(block: Block): CellState | undefined {
  return definitionOf(block).state(block);
}

/** Cost of a block on a rank with a share. */
export function costOf(block: RankBlock, share: RankShare, slots = 1): BlockCost {
  return definitionOf(block).cost(block, share, slots);
}

/** A sum over all ranks during a block. */
export interface BlockSum {
  /** Values per token. */
  readonly length: number;
  /** True if they are added up in f32, whatever the wire type. */
  readonly exact: boolean;
}

/** The sums over all ranks during a block, in order. */
export function sumsOf(block: RankBlock): BlockSum[] {
  let leaves: number | undefined;
  return stepsOf(block).flatMap((step) => {
    if (step.does === "compute") leaves = step.leaves;
    return step.does === "sum" ? [{ length: leaves ?? block.embeddingLength, exact: leaves !== undefined }] : [];
  });
}

/** The room that steps of blocks need for what passes between their graphs, per token. */
export interface PassedOn {
  /** Values of the largest `partial` that steers what is computed next; 0 if there is none. */
  readonly steering: number;
  /** Values of all tensors that one block keeps. */
  readonly kept: number;
  /** Ids and weights of a choice. */
  readonly ids: number;
  readonly weights: number;
}

/** The most that any block of a rank passes on. */
export function passedOn(blocks: readonly RankBlock[], share: RankShare): PassedOn {
  const steps = blocks.flatMap((block) => stepsOf(block));
  const choices = steps.filter((step) => step.does === "choose" || step.does === "experts");
  const most = (values: readonly number[]) => values.reduce((a, b) => Math.max(a, b), 0);
  return {
    steering: most(steps.map((step) => (step.does === "compute" ? (step.leaves ?? 0) : 0))),
    kept: most(blocks.map((block) => (costOf(block, share).kept ?? []).reduce((a, b) => a + b, 0))),
    ids: most(choices.map((step) => (step.does === "experts" ? step.used : step.ids))),
    weights: most(choices.map((step) => (step.does === "experts" ? step.used : step.weights))),
  };
}

/** Windows of tokens that attention blocks have (0: none), each once. */
export function windowsOf(blocks: readonly Block[]): number[] {
  return [...new Set(blocks.flatMap((block) => ("window" in block ? [block.window] : [])))];
}

/** Name of a block for people, such as `attention 3`, of whatever kind that is; there is one head. */
export function blockName({ kind, layer }: Pick<Block, "kind" | "layer">): string {
  if (kind === "head") return kind;
  return `${kind === "latentAttention" ? "attention" : kind} ${layer}`;
}
