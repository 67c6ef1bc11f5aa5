import { StelliumError } from "../errors.ts";
import type { Block, RankBlock } from "../model/blocks/block.ts";
import type { ModelDescription } from "../model/describeModel.ts";
import { hasUnits, isDivided, partOf, type RankShare, type Weight } from "../model/split.ts";
import type { GgufTensor } from "../weights/gguf/model.ts";
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
  const blocks = description.blocks.map((block) => rankBlock(block, shares, rank));
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

function rankBlock(block: Block, shares: readonly RankShare[], rank: number): RankBlock {
  const parts = partsOf(block.weights, shares, rank);
  const weights = parts.filter(({ resident }) => !resident);
  const resident = parts.filter((weight) => weight.resident);
  return { ...block, empty: !weights.some(isDivided), undivided: isUndivided(block, shares), weights, resident };
}

/** True if no two ranks have parts of the block's weights. */
function isUndivided({ weights }: Block, shares: readonly RankShare[]): boolean {
  const divided = weights.filter(isDivided);
  const having = shares.filter((share) => divided.some(({ split }) => hasUnits(split, share)));
  return having.length <= 1;
}

/** Two blocks may read the same weight. */
function uniqueByName(weights: readonly Weight[]): Weight[] {
  return [...new Map(weights.map((weight) => [weight.name, weight])).values()];
}

function partsOf(weights: readonly Weight[], shares: readonly RankShare[], rank: number): Weight[] {
  return weights.flatMap((weight) => partOf(weight, shares, rank) ?? []);
}
