import { StelliumError } from "../errors.ts";
import type { Block, RankBlock } from "../model/blocks/block.ts";
import type { ModelDescription } from "../model/describeModel.ts";
import { expertUnits, partOfExperts } from "../model/expertWeights.ts";
import { hasUnits, isDivided, partOf, type RankShare, type Unit, type Weight } from "../model/split.ts";
import type { GgufTensor } from "../weights/gguf/model.ts";
import type { SlicedModel } from "../weights/sliceLayout.ts";
import type { BlockMap } from "../weights/window/blockMap.ts";
import { ggufMap } from "../weights/window/ggufMap.ts";
import type { SharePlan } from "./shares.ts";

/** What one rank runs. Plain data: it crosses threads and the network. */
export interface RankDescription extends Omit<ModelDescription, "blocks" | "embedding" | "shared" | "leftOut"> {
  readonly rank: number;
  /** Of all ranks. */
  readonly shares: readonly RankShare[];
  /** The rank's own. */
  readonly share: RankShare;
  /** All blocks of the model, in order. */
  readonly blocks: readonly RankBlock[];
  /** On rank 0 alone. */
  readonly embedding: GgufTensor | undefined;
  readonly perLayer: ModelDescription["perLayer"];
  /** Weights that belong to no block, and those of the blocks that are always in memory. */
  readonly shared: readonly Weight[];
}

/**
 * What rank `rank` of a plan runs: its parts of all weights, as their splits say. Throws `SHARES_INVALID` if the plan has
 * no such rank.
 */
export function rankDescription(description: ModelDescription, plan: SharePlan, rank: number): RankDescription {
  const shares = plan.ranks;
  const share = shares[rank];
  if (share === undefined) {
    throw new StelliumError("SHARES_INVALID", { reason: `there is no rank ${rank} among ${shares.length}` });
  }
  const { files, hyperparameters, units, shared } = description;
  const perLayer = rank === 0 ? description.perLayer : undefined;
  const blocks = description.blocks.map((block) => rankBlock(block, plan, rank));
  return {
    ...{ files, hyperparameters, units, rank, share, shares },
    blocks,
    embedding: rank === 0 ? description.embedding : undefined,
    perLayer,
    shared: uniqueByName([
      ...partsOf(shared, shares, rank),
      ...(perLayer?.weights ?? []),
      ...blocks.flatMap(({ resident }) => resident),
    ]),
  };
}

/** What a rank's slice is made of. */
export function slicedModel({ share, units, blocks, shared }: RankDescription): SlicedModel {
  const known = Object.entries(share).filter(([unit]) => units[unit as Unit] > 0);
  return { share: Object.fromEntries(known), blocks, shared, experts: expertUnits(blocks) };
}

/** Where a rank's weights lie in the model's files. @param layout - name of the plain one */
export function plainMap({ files, blocks, shared }: RankDescription, layout: string): BlockMap {
  const experts = expertUnits(blocks).map(({ weights }) => weights);
  return ggufMap(files, [...blocks.map((block) => block.weights), shared], experts, layout);
}

/** Room that a rank's weights take in memory if they are read from the model's files as they are. */
export function plainRooms(description: RankDescription): { blocks: number[]; experts: number[] } {
  const { blocks, experts } = plainMap({ ...description, files: [] }, "");
  const rooms = blocks.map(({ room }) => room);
  return { blocks: rooms.slice(0, experts), experts: rooms.slice(experts) };
}

function rankBlock(block: Block, { ranks: shares, experts: dealt }: SharePlan, rank: number): RankBlock {
  const parts = partsOf(block.weights, shares, rank);
  const weights = parts.filter(({ resident }) => !resident);
  const resident = parts.filter((weight) => weight.resident);
  const experts = block.experts && partOfExperts(block.experts, shares, rank, dealt);
  const empty = ![...weights, ...(experts?.matrices ?? [])].some(isDivided);
  const sharers = sharersOf(block, shares);
  const undivided = sharers.length <= 1;
  return { ...block, empty, undivided, sharers, weights, resident, ...(experts && { experts }) };
}

/** Ranks that have parts of the block's weights. */
function sharersOf({ weights, experts }: Block, shares: readonly RankShare[]): number[] {
  const divided = [...weights, ...(experts?.matrices ?? [])].filter(isDivided);
  return [...shares.keys()].filter((rank) => divided.some(({ split }) => hasUnits(split, shares[rank]!)));
}

/** Two blocks may read the same weight. */
function uniqueByName(weights: readonly Weight[]): Weight[] {
  return [...new Map(weights.map((weight) => [weight.name, weight])).values()];
}

function partsOf(weights: readonly Weight[], shares: readonly RankShare[], rank: number): Weight[] {
  return weights.flatMap((weight) => partOf(weight, shares, rank) ?? []);
}
