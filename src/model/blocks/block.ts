import type { Tensor } from "../../native/ggml.ts";
import type { BatchShape } from "../batch.ts";
import type { CellState, CellTensors } from "../cells.ts";
import type { GraphBuilder } from "../graphBuilder.ts";
import type { NormParameters } from "../hyperparameters.ts";
import type { RankShare, Weight } from "../split.ts";
import type { AttentionBlock } from "./attention.ts";
import type { FeedForwardBlock } from "./feedForward.ts";
import type { HeadBlock } from "./head.ts";

/** Facts that every block has. */
export interface BlockFacts {
  /** Index of the layer; of the head, the number of layers. */
  readonly layer: number;
  readonly weights: readonly Weight[];
  /** Values of a token's hidden state. */
  readonly embeddingLength: number;
  readonly norm: NormParameters;
  /** Role of the norm before its first matrices, and of the one after its sum, if it has them. */
  readonly before: string | undefined;
  readonly after: string | undefined;
  /** Factor on what it adds to the hidden states. */
  readonly residualScale: number;
}

/** The unit of computing, splitting and streaming. Plain data: it crosses threads. */
export type Block = AttentionBlock | FeedForwardBlock | HeadBlock;

/** A kind of block. */
export type BlockKind = Block["kind"];

/** A block as one rank computes it: `weights` are the rank's parts. */
export type RankBlock<B extends Block = Block> = B & {
  /** Whether the rank has no share of it: it adds nothing to the sum then. */
  readonly empty: boolean;
  /** Of those, the ones that are always in memory; `weights` are the others. */
  readonly resident: readonly Weight[];
};

/** Inputs of a forward pass besides weights and hidden states. */
export interface PassInputs {
  /** (tokens) i32 */
  readonly positions: Tensor;
  /** (tokens) i64: the cell each token's keys and values go to. */
  readonly cells: Tensor;
  /** (1, 1, tokens) f32: factors on queries; null if the model scales none. */
  readonly queryScales: Tensor | null;
  /** (cells, tokens, 1, slots) f16, of each span, for a window of tokens (0: none). */
  masks(window: number): readonly Tensor[];
}

/** Everything a block's part of a graph is built from. */
export interface BlockContext {
  readonly builder: GraphBuilder;
  readonly shape: BatchShape;
  readonly inputs: PassInputs;
  readonly share: RankShare;
  /** Whether this rank is the only one, so that its partial sums are the sums. */
  readonly alone: boolean;
  /** Cells of a sequence: which of a model's RoPE factors apply. */
  readonly slotCells: number;
  /** The keys and values of a block; only blocks with a share of them ask. */
  cells(block: RankBlock): CellTensors;
  /** The tensor of a block's weight by its role, or null if the rank has none. */
  weight(block: RankBlock, role: string): Tensor | null;
  /** The tensor of a weight that belongs to no block, or null. */
  shared(role: string): Tensor | null;
}

/** The tensors that flow from one step of a block to the next. */
export interface Flow {
  /** (embedding length, columns): the hidden states. After the last attention, of the tokens with outputs only. */
  readonly hidden: Tensor;
  /**
   * (embedding length, columns): what is to be added to the hidden states; a rank's part of it before the sum. Null if
   * there is none, or the rank has no part.
   */
  readonly partial: Tensor | null;
  /** Tokens that they are of. */
  readonly columns: number;
}

/** Results of a pass, in the order of its columns; null if none are wanted. */
export interface PassResults {
  /** (embedding length, hidden): final hidden states. More columns may follow. */
  readonly hidden: Tensor | null;
  /** (vocabulary size, outputs that are logits) */
  readonly logits: Tensor | null;
}

/** A step's end: further flow, the results of the pass, or null if nothing further is wanted of it. */
export type StepEnd = Flow | { readonly results: PassResults } | null;

/** A step that computes: part of a graph. Neighbouring ones with nothing between them share one graph. */
export interface ComputeStep<B extends Block> {
  readonly does: "compute";
  /** Whether all of its weights are `resident`, so that the rest of the block may leave the window before. */
  readonly resident?: boolean;
  append(context: BlockContext, block: RankBlock<B>, flow: Flow): StepEnd;
}

/** All ranks add up `partial`. */
export interface SumStep {
  readonly does: "sum";
}

/** One thing after the other that a block does. */
export type BlockStep<B extends Block> = ComputeStep<B> | SumStep;

/** Cost of a block on one rank. */
export interface BlockCost {
  /** F32 values per token that are in memory at its widest point, besides the hidden states. */
  readonly workingValues: number;
  /** Tokens of a pass that it computes: all, or only those with outputs. */
  readonly computes: "tokens" | "outputs";
}

/** A kind of block, in one place. */
export interface BlockDefinition<B extends Block> {
  /** In order. */
  steps(block: B): readonly BlockStep<B>[];
  /** The keys and values that it keeps for later passes; undefined if it keeps nothing. */
  state(block: B): CellState | undefined;
  /** @param slots - sequences side by side */
  cost(block: B, share: RankShare, slots: number): BlockCost;
}

/** Adds the sum over all ranks to the hidden states, under the block's last norm, if it has one. */
export const addSum: ComputeStep<Block> = {
  does: "compute",
  resident: true,
  append(context, block, { hidden, partial, columns }) {
    const { builder } = context;
    const normed = block.after === undefined ? partial! : normedBy(context, block, block.after, partial!);
    return { hidden: builder.add(builder.scale(normed, block.residualScale), hidden), partial: null, columns };
  },
};

/** `input` under a block's norm of this role. */
function normedBy(context: BlockContext, block: RankBlock, role: string, input: Tensor): Tensor {
  return context.builder.norm(input, context.weight(block, role)!, block.norm);
}

/** The hidden states under the block's first norm, if it has one. */
export function blockInput(context: BlockContext, block: RankBlock, hidden: Tensor): Tensor {
  return block.before === undefined ? hidden : normedBy(context, block, block.before, hidden);
}

/** weight . input (+ bias) */
export function project(context: BlockContext, block: RankBlock, stem: string, input: Tensor): Tensor {
  const product = context.builder.matMul(context.weight(block, `${stem}.weight`)!, input);
  const bias = context.weight(block, `${stem}.bias`);
  return bias === null ? product : context.builder.add(product, bias);
}
