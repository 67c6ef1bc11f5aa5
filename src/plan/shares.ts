import type { ModelDescription } from "../engine/modelDescription.ts";
import { StelliumError } from "../errors.ts";
import { tensorTypes } from "../weights/gguf/types.ts";
import type { Range } from "../weights/slice.ts";

/** What one rank owns of every layer and of the head. Any of it may be nothing (`count` 0). */
export interface RankShare {
  /** KV heads, each with the query heads that attend to it. */
  readonly kvHeads: Range;
  /** Columns of `ffn_down`, which are the rows of `ffn_gate` and `ffn_up`. */
  readonly ffn: Range;
  /** Rows of the output head. */
  readonly vocabulary: Range;
}

/** Who has the output head: rank 0 alone, or every rank some rows of the vocabulary. */
export type HeadPlacement = "coordinator" | "sharded";

/** How a model is shared out. Plain data: the same plan drives slicing, memory, graphs and transfer. */
export interface SharePlan {
  /** By rank; the ranges follow on each other in rank order. */
  readonly ranks: readonly RankShare[];
  /** KV heads that cannot be parted from each other. */
  readonly attentionUnitKvHeads: number;
  /** Feed-forward columns that are dealt together; the last unit may have fewer. */
  readonly ffnUnitColumns: number;
  readonly head: HeadPlacement;
}

/** How to deal. */
export interface ShareOptions {
  /** Default `coordinator`. */
  readonly head?: HeadPlacement;
  /**
   * `blocks` (default) deals attention and feed-forward columns each by the relative shares. All ranks wait for the
   * slowest at the end of every block, so this is the fastest where computing or memory bandwidth is the limit.
   * `bytes` gives less feed-forward to ranks that have got more attention than their share (or the head), and more to
   * those without any: each block waits longer, but the bytes a device holds, or reads from its disk for every token,
   * are as near to its share as they can be.
   */
  readonly even?: "blocks" | "bytes";
}

/** Most ranks of a plan. */
export const mostRanks = 64;
/** Most sequences that can be in the KV cache at once. */
export const mostSlots = 256;

/** Rows that layouts interleave: ranges of whole groups keep `ffn_gate`, `ffn_up` and the head in the fastest layout. */
const rowGroups = [64, 32, 16, 8, 4, 2, 1];

/**
 * Deals a model to as many ranks as `relative` has numbers, in proportion to them: whole units, by largest remainder.
 * A unit's columns of `attn_output` and `ffn_down` start and end on quantization-block borders in every layer.
 * A rank may get nothing of a block: because its number is 0 or small, or because there are more ranks than units.
 * Throws `SHARES_INVALID`.
 */
export function planShares(
  description: ModelDescription,
  relative: readonly number[],
  { head = "coordinator", even = "blocks" }: ShareOptions = {},
): SharePlan {
  const shares = fractions(relative);
  const { headCountKv, feedForwardLength, vocabularySize } = description.hyperparameters;
  const attentionUnitKvHeads = attentionUnit(description);
  const ffnUnitColumns = unitFor(feedForwardLength, columnBlock(description, "ffn_down.weight"), shares);
  const kvHeads = deal(headCountKv, attentionUnitKvHeads, shares);
  const headShares = head === "sharded" ? shares : shares.map((_, rank) => (rank === 0 ? 1 : 0));
  const vocabulary = deal(vocabularySize, unitFor(vocabularySize, 1, headShares), headShares);
  const ffnShares = even === "bytes" ? evenedShares(description, shares, kvHeads, vocabulary) : shares;
  const ffn = deal(feedForwardLength, ffnUnitColumns, ffnShares);
  const ranks = shares.map((_, i) => ({ kvHeads: kvHeads[i]!, ffn: ffn[i]!, vocabulary: vocabulary[i]! }));
  return { ranks, attentionUnitKvHeads, ffnUnitColumns, head };
}

/** Shares that sum to 1. Divided by the largest first, since a sum of large ones may be infinite. */
function fractions(relative: readonly number[]): number[] {
  const invalid = (reason: string) => new StelliumError("SHARES_INVALID", { reason });
  if (relative.length < 1 || relative.length > mostRanks) {
    throw invalid(`it would be ${relative.length} shares, where there may be 1 to ${mostRanks}`);
  }
  const bad = relative.findIndex((share) => !(share >= 0 && Number.isFinite(share)));
  if (bad !== -1) throw invalid(`share ${bad + 1} of ${relative.length} is ${relative[bad]}`);
  const largest = Math.max(...relative);
  if (largest === 0) throw invalid(`all of its ${relative.length} shares are 0`);
  const scaled = relative.map((share) => share / largest);
  const sum = total(scaled);
  return scaled.map((share) => share / sum);
}

/** The fewest KV heads whose columns of `attn_output` end on a border. */
function attentionUnit(description: ModelDescription): number {
  const { headCount, headCountKv, valueLength } = description.hyperparameters;
  const block = columnBlock(description, "attn_output.weight");
  const unit = block / greatestDivisor(block, (headCount / headCountKv) * valueLength);
  return Math.min(unit, headCountKv);
}

/** The fewest elements between borders that all layers have in common. */
function columnBlock({ blocks }: ModelDescription, role: string): number {
  const weights = blocks.flatMap((block) => block.weights.filter((weight) => weight.role === role));
  return weights.map(({ tensor }) => tensorTypes[tensor.type].blockElements).reduce(leastMultiple, 1);
}

/** So many units for each rank keep what is left over from dealing small. */
const unitsPerRank = 4;

/** Whole blocks, and the largest whole row groups of which there are enough. */
function unitFor(length: number, block: number, shares: readonly number[]): number {
  const wanted = shares.filter((share) => share > 0).length;
  const units = rowGroups.map((group) => leastMultiple(group, block));
  return units.find((unit) => length / unit >= wanted * unitsPerRank) ?? block;
}

/** Deals `length` things in units, the last of which may be smaller. */
function deal(length: number, unit: number, shares: readonly number[]): Range[] {
  const counts = largestRemainder(Math.ceil(length / unit), shares);
  let dealt = 0;
  return counts.map((count) => {
    const start = Math.min(dealt * unit, length);
    dealt += count;
    return { start, count: Math.min(dealt * unit, length) - start };
  });
}

/** Whole numbers that sum to `units` and are nearest to its fractions; of equal remainders the first rank's goes up. */
function largestRemainder(units: number, shares: readonly number[]): number[] {
  const quotas = shares.map((share) => share * units);
  const counts = quotas.map(Math.floor);
  const order = quotas.map((_, rank) => rank).filter((rank) => shares[rank]! > 0);
  const remainder = (rank: number) => quotas[rank]! - Math.floor(quotas[rank]!);
  order.sort((a, b) => remainder(b) - remainder(a) || a - b);
  for (let left = units - total(counts), i = 0; left > 0; left--, i++) counts[order[i % order.length]!]! += 1;
  return counts;
}

/** Shares of the feed-forward columns that level the bytes of all a rank has. */
function evenedShares(
  description: ModelDescription,
  shares: readonly number[],
  kvHeads: readonly Range[],
  vocabulary: readonly Range[],
): number[] {
  const { headCountKv, vocabularySize } = description.hyperparameters;
  const bytes = (kind: string) => total(description.blocks.map((block) => (block.kind === kind ? bytesOf(block) : 0)));
  const attention = bytes("attention") / headCountKv;
  const head = bytes("head") / vocabularySize;
  const fixed = shares.map((_, rank) => kvHeads[rank]!.count * attention + vocabulary[rank]!.count * head);
  const parts = levelled(shares, fixed, bytes("ffn"));
  const sum = total(parts);
  return parts.map((part) => part / sum);
}

/** Parts of `amount` that bring `fixed` to one level, as a multiple of the shares; nothing where it is above already. */
function levelled(shares: readonly number[], fixed: readonly number[], amount: number): number[] {
  let filling = shares.map((_, rank) => rank).filter((rank) => shares[rank]! > 0);
  for (;;) {
    const level = (amount + total(filling.map((rank) => fixed[rank]!))) / total(filling.map((rank) => shares[rank]!));
    const below = filling.filter((rank) => level * shares[rank]! > fixed[rank]!);
    if (below.length === filling.length) {
      return shares.map((share, rank) => (below.includes(rank) ? level * share - fixed[rank]! : 0));
    }
    filling = below;
  }
}

function bytesOf(block: ModelDescription["blocks"][number]): number {
  return total(block.weights.map((weight) => weight.tensor.bytes));
}

function total(numbers: readonly number[]): number {
  return numbers.reduce((sum, value) => sum + value, 0);
}

function greatestDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestDivisor(b, a % b);
}

function leastMultiple(a: number, b: number): number {
  return (a / greatestDivisor(a, b)) * b;
}
