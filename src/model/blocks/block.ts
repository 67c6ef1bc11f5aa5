import type { Tensor } from "../../native/ggml.ts";
import type { Architecture } from "../architecture.ts";
import type { BatchShape } from "../batch.ts";
import type { CellState, CellTensors } from "../cells.ts";
import type { ExpertWeights } from "../expertWeights.ts";
import type { GatedActivation, GraphBuilder } from "../graphBuilder.ts";
import type { Hyperparameters, NormParameters } from "../hyperparameters.ts";
import type { RankShare, Weight } from "../split.ts";
import type { TensorFinder } from "../tensorFinder.ts";
import type { AttentionBlock } from "./attention.ts";
import type { ExpertsBlock } from "./experts.ts";
import type { FeedForwardBlock } from "./feedForward.ts";
import type { HeadBlock } from "./head.ts";
import type { LatentAttentionBlock } from "./latentAttention.ts";
import type { PerLayerBlock } from "./perLayer.ts";

/** Facts that every block has. */
export interface BlockFacts {
  /** Index of the layer; of the head, the number of layers. */
  readonly layer: number;
  readonly weights: readonly Weight[];
  /** Further weights, of which a token needs some only. */
  readonly experts?: ExpertWeights;
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
export type Block = AttentionBlock | LatentAttentionBlock | FeedForwardBlock | ExpertsBlock | PerLayerBlock | HeadBlock;

/** A kind of block. */
export type BlockKind = Block["kind"];

/** A block as one rank computes it: `weights` are the rank's parts. */
export type RankBlock<B extends BlockFacts = Block> = B & {
  /** True if the rank has no share of it: it decides nothing and adds nothing to the sums then. */
  readonly empty: boolean;
  /** True if one rank has all of it, and its share depends on no other rank. The same on all ranks. */
  readonly undivided: boolean;
  /** Ranks with a share of it, in order: the same on all ranks. */
  readonly sharers: readonly number[];
  /** Of those, the ones that are always in memory; `weights` are the others. */
  readonly resident: readonly Weight[];
  /** True if its experts are not all in memory: they are computed one by one. */
  readonly pooled?: boolean;
  /** True if its choices are recorded, which requires a graph boundary after the router. */
  readonly recorded?: boolean;
  /** Blocks whose choices it guesses beside its own one, the next one first, so that experts can be read ahead. */
  readonly guesses?: readonly RankBlock[];
};

/** Inputs of a forward pass besides weights and hidden states. */
export interface PassInputs {
  /** Of the last `count` tokens, (channels * count) i32: as many channels as `positionChannels` says. */
  positions(count: number): Tensor;
  /** (tokens) i64: the cell each token's keys and values go to. */
  readonly cells: Tensor;
  /** (1, 1, tokens) f32: factors on queries; null if the model scales none. */
  readonly queryScales: Tensor | null;
  /** Of the last `count` tokens, (values, count) f32: their embeddings for a layer. Only of models that have such. */
  perLayer(layer: number, count: number): Tensor;
  /** (cells, tokens, 1, slots) f16, of each span, for a window of tokens (0: none). */
  masks(window: number): readonly Tensor[];
}

/** Everything a block's part of a graph is built from. */
export interface BlockContext {
  readonly builder: GraphBuilder;
  readonly shape: BatchShape;
  readonly inputs: PassInputs;
  readonly share: RankShare;
  /** How a block that takes the same input as the one before joins what that one has left. */
  readonly join: ParallelJoin;
  /** Cells of a sequence: which of a model's RoPE factors apply. */
  readonly slotCells: number;
  /** The keys and values of a layer; only blocks with a share of them ask. */
  cells(block: Pick<BlockFacts, "layer">): CellTensors;
  /** The tensor of a block's weight by its role, or null if the rank has none. */
  weight(block: RankBlock<BlockFacts>, role: string): Tensor | null;
  /** (inputs, outputs, experts): a matrix of all experts of a block, which the rank has a share of. */
  experts(block: RankBlock<BlockFacts>, role: string): Tensor;
  /** The tensor of a weight that belongs to no block, or null. */
  shared(role: string): Tensor | null;
}

/** The tensors that flow from one step of a block to the next. */
export interface Flow {
  /** (embedding length, columns): the hidden states. After the last attention, of the tokens with outputs only. */
  readonly hidden: Tensor;
  /**
   * (embedding length, columns): what is to be added to the hidden states; a rank's part of it before the sum. Null if
   * there is none, or the rank has no part. A step may leave something else in its place: see `ComputeStep.leaves`.
   */
  readonly partial: Tensor | null;
  /** Tokens that they are of. */
  readonly columns: number;
  /** What an earlier step of the block left to this one besides, each (values, columns): see `BlockCost.kept`. */
  readonly kept?: readonly Tensor[] | undefined;
  /** What was chosen before this step. */
  readonly chosen?: ChosenInputs | undefined;
  /** The block's choice of experts, if they are computed next. */
  readonly routed?: RoutedOutputs | undefined;
}

/** A graph's choice of `used` experts for each token; see `ChosenInputs`. */
export interface RoutedOutputs extends ChosenInputs {
  readonly used: number;
  /** (`used`, columns) i32 each: those that the blocks will probably choose which this one guesses for. */
  readonly guessed: readonly Tensor[];
}

/** A choice as the graph sees it. */
export interface ChosenInputs {
  /** (ids per token, columns) i32 */
  readonly ids: Tensor;
  /** (weights per token, columns) f32 */
  readonly weights: Tensor;
}

/** A choice as the processor writes it: token after token. */
export interface ChosenValues {
  readonly ids: Int32Array;
  readonly weights: Float32Array;
}

/** Adds what a block computed to the flow that a parallel block has left. */
export type ParallelJoin = (builder: GraphBuilder, flow: Flow, own: Tensor) => Flow;

/** Ranks have parts of both, which are added up before they are added to the hidden states. */
export const joinParts: ParallelJoin = (builder, flow, own) => ({ ...flow, partial: builder.add(own, flow.partial!) });

/** One rank alone has the whole: it is added to the hidden states at once, in llama.cpp's order. */
export const joinWhole: ParallelJoin = (builder, flow, own) => ({ ...flow, hidden: builder.add(own, flow.hidden) });

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
export interface ComputeStep<B extends BlockFacts> {
  readonly does: "compute";
  /** True if all of its weights are `resident`, so that the rest of the block may leave the window before. */
  readonly resident?: boolean;
  /**
   * Values per token of the `partial` that it leaves, if it is not to be added to the hidden states but steers what the
   * block does next. These few are added up in f32, whatever the wire type. Default the hidden states' values.
   */
  readonly leaves?: number;
  /** Operations and weights that it has at most. Default 40. */
  readonly nodes?: number;
  append(context: BlockContext, block: RankBlock<B>, flow: Flow): StepEnd;
}

/** All ranks add up `partial`. */
export interface SumStep {
  readonly does: "sum";
}

/**
 * The processor decides, from the `partial` that the step before has left, what the next compute step works on. Every
 * rank with a share decides for itself. After a sum all have the same bits. Without one, each has computed `partial` from
 * replicated weights; CPUs round differently, so the ranks compare what they chose in the sum that follows, of which a
 * choice needs one of its own, and compute the pass again with one rank's choices if they differ.
 */
export interface ChooseStep<B extends BlockFacts> {
  readonly does: "choose";
  /** Ids and weights that it gives each token. */
  readonly ids: number;
  readonly weights: number;
  /** How many things there are to choose from. */
  readonly among: number;
  /**
   * Called between two graphs, for each group of tokens, on ranks with a share of the block. A token's ids are different
   * from each other, below `among`, and mean the same on all ranks, whatever the values of `partial`.
   *
   * @param partial - (`leaves` of the step before, columns)
   * @param chosen - to be filled in
   */
  choose(block: RankBlock<B>, partial: Float32Array, chosen: ChosenValues): void;
}

/** The parts from which the graph of one expert is built, or of several. */
export interface ExpertContext {
  readonly builder: GraphBuilder;
  /** Multiplies by the expert's matrix of this stem, and adds its bias, if there is one. */
  project(stem: string, input: Tensor): Tensor;
}

/**
 * The experts that were chosen are computed, one by one, as they come into memory. A step between the choice and this one
 * is computed while they are read. What is kept first is their input, (embedding length, columns); the next step finds
 * what they gave, (embedding length, `used` * columns), kept last.
 */
export interface ExpertsStep<B extends BlockFacts> {
  readonly does: "experts";
  /** Experts of each token. */
  readonly used: number;
  /**
   * Appends one expert, applied to some columns of the input; or several, each applied to one. Returns its output: for each
   * column as many values as the embedding has.
   */
  append(context: ExpertContext, block: RankBlock<B>, input: Tensor): Tensor;
}

/** One thing after the other that a block does. */
export type BlockStep<B extends BlockFacts> = ComputeStep<B> | SumStep | ChooseStep<B> | ExpertsStep<B>;

/** Cost of a block on one rank. */
export interface BlockCost {
  /** F32 values per token that are in memory at its widest point, besides the hidden states. */
  readonly workingValues: number;
  /** Tokens of a pass that it computes: all, or only those with outputs. */
  readonly computes: "tokens" | "outputs";
  /** Values per token of each tensor that a step leaves to the next one, across a sum or a choice. Default none. */
  readonly kept?: readonly number[];
}

/** A kind of block, in one place. */
export interface BlockDefinition<B extends BlockFacts> {
  /** Finds the weights of a layer's block, and the facts about it. Throws `MODEL_UNSUPPORTED`. */
  describe(finder: TensorFinder, architecture: Architecture, h: Hyperparameters, layer: number): B;
  /** In order; the same on all ranks. */
  steps(block: RankBlock<B>): readonly BlockStep<B>[];
  /** The keys and values that it keeps for later passes; undefined if it keeps nothing. */
  state(block: B): CellState | undefined;
  /** @param slots - sequences side by side */
  cost(block: RankBlock<B>, share: RankShare, slots: number): BlockCost;
}

/** Adds the sum over all ranks to the hidden states, under the block's last norm, if it has one. */
export const addSum: ComputeStep<BlockFacts> = {
  does: "compute",
  resident: true,
  append(context, block, { hidden, partial, columns }) {
    const { builder } = context;
    const normed = block.after === undefined ? partial! : normedBy(context, block, block.after, partial!);
    return { hidden: builder.add(builder.scale(normed, block.residualScale), hidden), partial: null, columns };
  },
};

/** `input` under a block's norm of this role. */
export function normedBy(context: BlockContext, block: RankBlock<BlockFacts>, role: string, input: Tensor): Tensor {
  return context.builder.norm(input, context.weight(block, role)!, block.norm);
}

/** The hidden states under the block's first norm, if it has one. */
export function blockInput(context: BlockContext, block: RankBlock<BlockFacts>, hidden: Tensor): Tensor {
  return block.before === undefined ? hidden : normedBy(context, block, block.before, hidden);
}

/** weight . input (+ bias) */
export function project(context: BlockContext, block: RankBlock<BlockFacts>, stem: string, input: Tensor): Tensor {
  const product = context.builder.matMul(context.weight(block, `${stem}.weight`)!, input);
  const bias = context.weight(block, `${stem}.bias`);
  return bias === null ? product : context.builder.add(product, bias);
}

/** down(activation(gate(input)) * up(input)) */
export function gatedNetwork(
  builder: GraphBuilder,
  activation: GatedActivation,
  input: Tensor,
  apply: (stem: GatedProjection, to: Tensor) => Tensor,
): Tensor {
  const [up, gate] = [apply("ffn_up", input), apply("ffn_gate", input)];
  return apply("ffn_down", builder.gated(activation, gate, up));
}

/** Projections of a gated network, by the stem of their GGUF name. */
export type GatedProjection = "ffn_gate" | "ffn_up" | "ffn_down";
