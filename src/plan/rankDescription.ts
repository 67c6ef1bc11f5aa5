import type { Hyperparameters } from "../engine/hyperparameters.ts";
import type { Block, ModelDescription, Weight } from "../engine/modelDescription.ts";
import { StelliumError } from "../errors.ts";
import type { GgufTensor } from "../weights/gguf/model.ts";
import { type Range, type TensorSlice, wholeTensor } from "../weights/slice.ts";
import type { RankShare, SharePlan } from "./shares.ts";

/** A weight of which a rank has a part, or a copy. `tensor` is the whole one. */
export interface SlicedWeight extends Weight, TensorSlice {}

/** A block as one rank computes it. */
export interface RankBlock extends Block {
  /** Whether the rank has no share of it: it has no weights then, and adds nothing to the reduction. */
  readonly empty: boolean;
  readonly weights: readonly SlicedWeight[];
}

/** What one rank runs. Plain data: it crosses threads and the network. */
export interface RankDescription extends Omit<ModelDescription, "blocks" | "embedding" | "ropeFactors"> {
  readonly rank: number;
  readonly share: RankShare;
  /** Rows of the output head that each rank has, by rank. */
  readonly vocabulary: readonly Range[];
  /** `headCount`, `headCountKv` and `feedForwardLength` are the rank's (they may be 0), all others the model's. */
  readonly hyperparameters: Hyperparameters;
  /** All blocks of the model, in order. */
  readonly blocks: readonly RankBlock[];
  /** On rank 0 alone. */
  readonly embedding: GgufTensor | undefined;
  /** Absent also where the rank has no attention. */
  readonly ropeFactors: TensorSlice | undefined;
}

/** The ranges a rank's share means for the tensors, as numbers of rows or columns. */
interface Ranges {
  readonly queries: Range;
  readonly keys: Range;
  readonly values: Range;
  readonly attended: Range;
  readonly ffn: Range;
  readonly vocabulary: Range;
}

/** Projections to the rank's own heads or columns: some rows of the matrix, and those elements of the bias. */
const columnParallel: Readonly<Record<string, keyof Ranges>> = {
  attn_q: "queries",
  attn_k: "keys",
  attn_v: "values",
  ffn_gate: "ffn",
  ffn_up: "ffn",
  output: "vocabulary",
};

/** Projections from the rank's own heads or columns, whose results are summed over the ranks: some columns. */
const rowParallel: Readonly<Record<string, keyof Ranges>> = { attn_output: "attended", ffn_down: "ffn" };

const shareOf = { attention: "kvHeads", ffn: "ffn", head: "vocabulary" } as const;

/**
 * What rank `rank` of a plan runs. Norms are replicated on every rank that has a share of their block; the biases of
 * `attn_output` and `ffn_down`, which must be added once, are the first such rank's: rank 0's, unless it has none.
 * Throws `SHARES_INVALID` where the plan has no such rank.
 */
export function rankDescription(description: ModelDescription, plan: SharePlan, rank: number): RankDescription {
  const share = plan.ranks[rank];
  if (share === undefined) {
    throw new StelliumError("SHARES_INVALID", { reason: `there is no rank ${rank} among ${plan.ranks.length}` });
  }
  const { architecture, files, hyperparameters, ropeFactors } = description;
  const attends = share.kvHeads.count > 0;
  return {
    files,
    architecture,
    rank,
    share,
    vocabulary: plan.ranks.map((each) => each.vocabulary),
    hyperparameters: localHyperparameters(hyperparameters, share),
    blocks: description.blocks.map((block) => rankBlock(block, hyperparameters, plan, rank)),
    embedding: rank === 0 ? description.embedding : undefined,
    ropeFactors: attends && ropeFactors ? wholeTensor(ropeFactors) : undefined,
  };
}

function localHyperparameters(h: Hyperparameters, { kvHeads, ffn }: RankShare): Hyperparameters {
  const headCount = kvHeads.count * (h.headCount / h.headCountKv);
  return { ...h, headCount, headCountKv: kvHeads.count, feedForwardLength: ffn.count };
}

function rankBlock(block: Block, h: Hyperparameters, plan: SharePlan, rank: number): RankBlock {
  const key = shareOf[block.kind];
  const empty = plan.ranks[rank]![key].count === 0;
  if (empty) return { ...block, empty, weights: [] };
  const first = plan.ranks.findIndex((share) => share[key].count > 0) === rank;
  const ranges = rangesOf(h, plan.ranks[rank]!);
  return { ...block, empty, weights: block.weights.flatMap((weight) => slicedWeight(weight, ranges, first)) };
}

function rangesOf(h: Hyperparameters, { kvHeads, ffn, vocabulary }: RankShare): Ranges {
  const group = h.headCount / h.headCountKv;
  return {
    queries: times(kvHeads, group * h.keyLength),
    keys: times(kvHeads, h.keyLength),
    values: times(kvHeads, h.valueLength),
    attended: times(kvHeads, group * h.valueLength),
    ffn,
    vocabulary,
  };
}

/** The rank's part of a weight: one, or none. */
function slicedWeight(weight: Weight, ranges: Ranges, first: boolean): SlicedWeight[] {
  const { role, tensor } = weight;
  const stem = role.replace(/\.(weight|bias)$/, "");
  const bias = role.endsWith(".bias");
  const { rows, columns } = wholeTensor(tensor);
  const out = columnParallel[stem];
  const summed = rowParallel[stem];
  if (out !== undefined) {
    return [{ ...weight, ...(bias ? { rows, columns: ranges[out] } : { rows: ranges[out], columns }) }];
  }
  if (summed !== undefined && !bias) return [{ ...weight, rows, columns: ranges[summed] }];
  if (summed !== undefined) return first ? [{ ...weight, rows, columns }] : [];
  if (role.endsWith("_norm.weight")) return [{ ...weight, rows, columns }];
  throw new Error(`there is no rule for sharing out ${role}`);
}

function times({ start, count }: Range, factor: number): Range {
  return { start: start * factor, count: count * factor };
}
