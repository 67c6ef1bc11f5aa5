import { planShared, type SharedEngineOptions } from "../../cluster/engineOptions.ts";
import { groupBytes } from "../../collective/group.ts";
import { defaultMaxPayload } from "../../collective/openLinks.ts";
import { type WireName, wireBytes } from "../../collective/wireBlock.ts";
import { kvCacheBytes } from "../../engine/kvCache.ts";
import type { ModelDescription } from "../../engine/modelDescription.ts";
import { StelliumError } from "../../errors.ts";
import { type DeviceMemory, planDeviceMemory } from "../../plan/deviceMemory.ts";
import { type RankDescription, rankDescription } from "../../plan/rankDescription.ts";
import { planShares, type RankShare } from "../../plan/shares.ts";
import { type DeviceFigures, figureOf } from "../figures.ts";

/** How a model is to be shared out and run. */
export interface WantedPlan {
  readonly devices: number | undefined;
  readonly shares: readonly number[] | undefined;
  readonly memory: DeviceFigures | undefined;
  readonly window: number | undefined;
  readonly wire: WireName;
  readonly context: number | undefined;
  readonly batch: number | undefined;
  readonly kv: SharedEngineOptions["kvType"] | undefined;
}

/** What a device has of the model, and where it has room for it. */
export interface RankPlan {
  readonly share: RankShare;
  readonly memory: DeviceMemory;
}

/** A model as it is shared out. */
export interface PlannedModel {
  readonly engine: SharedEngineOptions;
  readonly ranks: readonly RankPlan[];
}

/** Shares a model out and plans every device's memory. Throws `SHARES_INVALID`. */
export function planModel(description: ModelDescription, wanted: WantedPlan): PlannedModel {
  const shares = sharesOf(wanted);
  const plan = planShares(description, shares);
  const ranks = shares.map((_, rank) => rankDescription(description, plan, rank));
  const { context, batch, kv } = wanted;
  const engine = planShared(ranks[0]!, { context, batch, kvType: kv });
  return { engine, ranks: ranks.map((rank) => planRank(rank, engine, wanted, shares.length)) };
}

function sharesOf({ devices, shares }: WantedPlan): readonly number[] {
  const count = devices ?? shares?.length ?? 1;
  if (shares === undefined) return Array<number>(count).fill(1);
  if (shares.length === count) return shares;
  throw new StelliumError("SHARES_INVALID", { reason: `there are ${count} devices and ${shares.length} shares` });
}

function planRank(
  description: RankDescription,
  engine: SharedEngineOptions,
  { memory, window, wire }: WantedPlan,
  size: number,
): RankPlan {
  const { rank, share, hyperparameters: h } = description;
  const encoded = { bytes: (elements: number) => wireBytes(wire, elements) };
  const sums = engine.batch * h.embeddingLength;
  const demand = {
    ...engine,
    outputs: rank === 0 ? 1 : 0,
    kvBytes: kvCacheBytes(h, engine.kvType, engine.context),
    linkBytes: size === 1 ? 0 : groupBytes(size, encoded, sums, defaultMaxPayload),
    capBytes: memory && figureOf(memory, rank),
    windowBlocks: window,
  };
  return { share, memory: planDeviceMemory(description, demand) };
}
