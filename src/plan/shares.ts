import { StelliumError } from "../errors.ts";
import type { ModelDescription } from "../model/describeModel.ts";
import { blockWeightBytes, type DealtExperts } from "../model/expertWeights.ts";
import { commonDivisor } from "../model/hyperparameters.ts";
import { isDivided, type RankShare, type Unit, unitNames, type Weight } from "../model/split.ts";
import { tensorTypes } from "../native/tensorTypes.ts";
import type { Range } from "../weights/slice.ts";

/** Who has the output head: rank 0 alone, or every rank some rows of the vocabulary. */
export type HeadPlacement = "coordinator" | "sharded";

/** How a model is shared out. Plain data: the same plan drives slicing, memory, graphs and transfer. */
export interface SharePlan {
  /** By rank; the ranges follow on each other in rank order. */
  readonly ranks: readonly RankShare[];
  /**
   * What each rank has of each expert, the same in all layers, if experts are dealt one by one; see `dealExperts`. Then
   * a rank's `expertFfn` tells the most it has of one.
   */
  readonly experts?: DealtExperts | undefined;
  /** Number of units that stay together; the last group may have fewer. */
  readonly groups: Readonly<Record<Unit, number>>;
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
  const sharesOf = (unit: Unit) => (unit === "vocabulary" ? headShares(head, shares) : shares);
  const groups = unitRecord((unit) => groupOf(description, unit, sharesOf(unit)));
  const dealt = (unit: Unit, to: readonly number[]) => deal(description.units[unit], groups[unit], to);
  const fixed = { kvHeads: dealt("kvHeads", shares), vocabulary: dealt("vocabulary", sharesOf("vocabulary")) };
  const evened = even === "bytes" ? evenedShares(description, shares, fixed) : shares;
  const ofExperts = evenColumns(description, groups.expertFfn, evened);
  groups.expertFfn = ofExperts ?? wholeBlocks(description, "expertFfn");
  const columns = Object.fromEntries(columnUnits.map((unit) => [unit, dealt(unit, evened)]));
  const ranges = { ...fixed, ...columns } as Record<Unit, Range[]>;
  const experts = ofExperts === undefined ? dealExperts(description, groups.expertFfn, evened) : undefined;
  if (experts !== undefined) ranges.expertFfn = experts.map(most);
  return {
    ranks: shares.map((_, rank): RankShare => unitRecord((unit) => ranges[unit][rank]!)),
    groups,
    experts,
    head,
  };
}

/** A rank may have this many times its share of the columns before experts are dealt one by one. */
const unevenColumns = 1.1;

/**
 * How many columns of experts stay together so that all ranks have their share of each, or little more: `group`, or the
 * largest smaller number of whole row groups that does. Undefined if none does, unless experts have biases: those are
 * divided in any case.
 */
function evenColumns(description: ModelDescription, group: number, shares: readonly number[]): number | undefined {
  const length = description.units.expertFfn;
  const block = wholeBlocks(description, "expertFfn");
  const isEven = (each: number) =>
    deal(length, each, shares).every(({ count }, rank) => count <= unevenColumns * shares[rank]! * length);
  const smaller = rowGroups.map((rows) => leastMultiple(rows, block)).filter((each) => each <= group);
  const biased = description.blocks.some(({ weights }) => weights.some(({ split }) => split.unit === "expertFfn"));
  return [group, ...smaller].find(isEven) ?? (biased ? group : undefined);
}

/**
 * Deals experts one by one, so that each rank comes to its share over all of them. It is done if the columns of each cannot
 * be divided evenly: quantization blocks leave too few parts (three of 768 columns in K-quants, which would leave one of
 * four ranks without any). The next expert's parts go to the ranks that lag behind their shares most. A token uses several
 * experts, so that its work evens out, too.
 *
 * @param group - columns that stay together
 */
function dealExperts(
  { units: { expertFfn: length }, hyperparameters: { routing } }: ModelDescription,
  group: number,
  shares: readonly number[],
): DealtExperts {
  const due = shares.map(() => 0);
  const parts = Math.ceil(length / group);
  const experts = Array.from({ length: routing!.count }, () => {
    shares.forEach((share, rank) => {
      due[rank]! += share * parts;
    });
    return inGroups(dealt(parts, due), length, group);
  });
  return shares.map((_, rank) => experts.map((ranges) => ranges[rank]!));
}

/** Whole numbers that sum to `parts`: each part goes to whom most is due, and is taken off that. */
function dealt(parts: number, due: number[]): number[] {
  const counts = due.map(() => 0);
  for (let part = 0; part < parts; part++) {
    const rank = due.indexOf(Math.max(...due));
    counts[rank]! += 1;
    due[rank]! -= 1;
  }
  return counts;
}

/** The largest of some ranges, as a range from 0. */
function most(ranges: readonly Range[]): Range {
  return { start: 0, count: ranges.reduce((count, range) => Math.max(count, range.count), 0) };
}

/** What is dealt so that it levels the bytes of what was dealt before. */
const columnUnits = ["ffn", "sharedFfn", "expertFfn"] as const satisfies Unit[];

function headShares(head: HeadPlacement, shares: readonly number[]): readonly number[] {
  return head === "sharded" ? shares : shares.map((_, rank) => (rank === 0 ? 1 : 0));
}

function unitRecord<T>(of: (unit: Unit) => T): Record<Unit, T> {
  return Object.fromEntries(unitNames.map((unit) => [unit, of(unit)])) as Record<Unit, T>;
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

/**
 * How many units are dealt together: as few as let every part of a column-split weight end on a quantization-block
 * border in every layer; of units that are single rows or columns, whole row groups if there are enough of those.
 */
function groupOf(description: ModelDescription, unit: Unit, shares: readonly number[]): number {
  const whole = wholeBlocks(description, unit);
  const length = description.units[unit];
  return unit === "kvHeads" ? Math.min(whole, length) : unitFor(length, whole, shares);
}

/** The fewest units that make whole quantization blocks of every weight that is divided by columns. */
function wholeBlocks(description: ModelDescription, unit: Unit): number {
  const columns = splitBy(description, unit).filter(({ axis }) => axis === "columns");
  return columns.map(({ each, block }) => block / commonDivisor([block, each])).reduce(leastMultiple, 1);
}

/** Axis, elements for each unit, and block length of every weight that is divided by a unit. */
function splitBy({ blocks }: ModelDescription, unit: Unit) {
  return blocks
    .flatMap(({ weights, experts }) => [...weights, ...(experts?.matrices ?? [])])
    .flatMap(({ split, tensor }) => {
      if (!isDivided({ split }) || split.unit !== unit || !("each" in split)) return [];
      return [{ axis: split.axis, each: split.each, block: tensorTypes[tensor.type].blockElements }];
    });
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
  return inGroups(largestRemainder(Math.ceil(length / unit), shares), length, unit);
}

/** Consecutive ranges, each of a number of groups; a group has `group` things, the last one may have fewer. */
function inGroups(counts: readonly number[], length: number, group: number): Range[] {
  let end = 0;
  return counts.map((count) => {
    const start = Math.min(end * group, length);
    end += count;
    return { start, count: Math.min(end * group, length) - start };
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

/** Shares of the feed-forward columns that level the bytes of all a rank has, given what is dealt already. */
function evenedShares(
  description: ModelDescription,
  shares: readonly number[],
  dealt: Readonly<Partial<Record<Unit, readonly Range[]>>>,
): number[] {
  const bytes = (unit: Unit, rank: number) => {
    const count = dealt[unit]?.[rank]?.count ?? 0;
    const { divided, copied } = bytesBy(description, unit);
    return count === 0 ? 0 : (count * divided) / description.units[unit] + copied;
  };
  const fixed = shares.map((_, rank) => total(unitNames.map((unit) => bytes(unit, rank))));
  const parts = levelled(shares, fixed, total(columnUnits.map((unit) => bytesBy(description, unit).divided)));
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

/** Bytes of all weights that are divided by a unit, and of those that each rank with a share of it has. */
function bytesBy({ blocks }: ModelDescription, unit: Unit): { divided: number; copied: number } {
  const bytes = (copies: boolean) => {
    const counts = ({ split }: Weight) => split.unit === unit && (split.axis === "replicated") === copies;
    return total(blocks.map((block) => blockWeightBytes(block, counts)));
  };
  return { divided: bytes(false), copied: bytes(true) };
}

function total(numbers: readonly number[]): number {
  return numbers.reduce((sum, value) => sum + value, 0);
}

function leastMultiple(a: number, b: number): number {
  return (a / commonDivisor([a, b])) * b;
}
