import { batchUnderCap, deviceMemory, type RankDemand } from "../../cluster/deviceMemory.ts";
import { planShared, type SharedEngineOptions } from "../../cluster/engineOptions.ts";
import type { WireName } from "../../collective/wireBlock.ts";
import { StelliumError } from "../../errors.ts";
import type { ModelDescription } from "../../model/describeModel.ts";
import type { RankShare } from "../../model/split.ts";
import type { DeviceMemory } from "../../plan/deviceMemory.ts";
import { type RankDescription, rankDescription } from "../../plan/rankDescription.ts";
import { planShares } from "../../plan/shares.ts";
import { type DeviceFigures, figureOf } from "./deviceFigures.ts";

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
export interface PlannedRank {
  readonly share: RankShare;
  readonly memory: DeviceMemory;
}

/** A model as it is shared out. */
export interface PlannedModel {
  /** Columns of an expert that stay together and all that it has, if experts are dealt one by one; see `SharePlan.experts`. */
  readonly dealt: { readonly part: number; readonly columns: number } | undefined;
  readonly engine: SharedEngineOptions;
  readonly ranks: readonly PlannedRank[];
}

/** Shares a model out and plans every device's memory. Throws `SHARES_INVALID`. */
export function planModel(description: ModelDescription, wanted: WantedPlan): PlannedModel {
  const shares = sharesOf(wanted);
  const plan = planShares(description, shares);
  const demands = shares.map((_, rank) => demandOf(rankDescription(description, plan, rank), wanted, shares.length));
  const engine = engineOf(demands[0]!, wanted);
  const ranks = demands.map((demand) => ({ share: demand.description.share, memory: deviceMemory(demand, engine) }));
  const dealt = plan.experts && { part: plan.groups.expertFfn, columns: description.units.expertFfn };
  return { engine, ranks, dealt };
}

/** The options of a run: without `--batch`, rank 0 has the batch that is best under its cap. */
function engineOf(demand: RankDemand, { context, batch, kv }: WantedPlan): SharedEngineOptions {
  const engine = planShared(demand.description, { context, batch, kvType: kv });
  return batch === undefined ? batchUnderCap(demand, engine) : engine;
}

function demandOf(description: RankDescription, { memory, window, wire }: WantedPlan, ranks: number): RankDemand {
  const cap = memory && { bytes: figureOf(memory, description.rank) };
  return { description, cap, windowBlocks: window, ranks, wire };
}

function sharesOf({ devices, shares }: WantedPlan): readonly number[] {
  const count = devices ?? shares?.length ?? 1;
  if (shares === undefined) return Array<number>(count).fill(1);
  if (shares.length === count) return shares;
  throw new StelliumError("SHARES_INVALID", { reason: `there are ${count} devices and ${shares.length} shares` });
}
