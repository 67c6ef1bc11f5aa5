import { type Range, type TensorSlice, wholeTensor } from "../weights/slice.ts";

/**
 * Units that ranks divide among themselves: KV heads with their query heads, feed-forward columns, those of shared experts
 * and those of each expert, and rows of the vocabulary. A layer that has more heads or columns than others has several of
 * them in each unit.
 */
export const unitNames = ["kvHeads", "ffn", "sharedFfn", "expertFfn", "vocabulary"] as const;

/** A name of `unitNames`. */
export type Unit = (typeof unitNames)[number];

/** Units of every layer and of the head that one rank owns. Any range may be empty (`count` 0). */
export type RankShare = Readonly<Record<Unit, Range>>;

/**
 * How ranks divide a weight. `rows` and `columns`: a rank has `each` of them for each of its units; a vector's elements
 * count as rows, since they are added to or scale what a matrix's rows give. `replicated`: every rank with a share of
 * `unit` has a copy, or without a `unit` every rank. `once`: only the first rank with a share of `unit` has it.
 */
export type Split =
  | { readonly axis: "rows" | "columns"; readonly unit: Unit; readonly each: number }
  | { readonly axis: "replicated"; readonly unit?: Unit }
  | { readonly axis: "once"; readonly unit: Unit };

/** A weight of a block: the part of a tensor that holds it, and how ranks divide it. Plain data: it crosses threads. */
export interface Weight extends TensorSlice {
  /** GGUF's name within the layer, such as `attn_q.weight`. */
  readonly role: string;
  readonly split: Split;
  /** True if it is always in memory: it is read at other times than the rest of its block. */
  readonly resident?: boolean;
}

/** The weight that is all of a tensor. */
export function wholeWeight(weight: Omit<Weight, "name" | "type" | "rows" | "columns">): Weight {
  return { ...wholeTensor(weight.tensor), ...weight };
}

/** True unless a split gives a rank nothing, since it has no units. */
export function hasUnits({ unit }: Split, share: RankShare): boolean {
  return unit === undefined || share[unit].count > 0;
}

/** True if each rank has another part of a weight. */
export function isDivided({ split }: Pick<Weight, "split">): boolean {
  return split.axis === "rows" || split.axis === "columns";
}

/**
 * A rank's part of a weight, or undefined if it has none.
 *
 * @param shares - of all ranks
 */
export function partOf(weight: Weight, shares: readonly RankShare[], rank: number): Weight | undefined {
  const { split } = weight;
  const share = shares[rank]!;
  if (!hasUnits(split, share)) return undefined;
  if (split.axis === "replicated") return weight;
  if (split.axis === "once") return shares.findIndex((each) => hasUnits(split, each)) === rank ? weight : undefined;
  return unitsOf(weight, share[split.unit]);
}

/** Some units of a weight; all of one that is not divided. */
export function unitsOf(weight: Weight, units: Range): Weight {
  const { split } = weight;
  if (split.axis !== "rows" && split.axis !== "columns") return weight;
  const axis = weight.kind === "vector" ? "columns" : split.axis;
  return { ...weight, [axis]: within(weight[axis], units, split.each) };
}

function within({ start }: Range, units: Range, each: number): Range {
  return { start: start + units.start * each, count: units.count * each };
}
