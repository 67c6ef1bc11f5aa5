import type { PlannedCluster, PromptPrediction, StepPrediction } from "../../plan/latency.ts";
import type { PlannedModel } from "./plannedModel.ts";
import type { PlanningRates } from "./rates.ts";

/** All that `stellium plan` finds out. */
export interface PlanFacts {
  readonly model: {
    readonly path: string;
    readonly name: string | null;
    readonly architecture: string;
    readonly weight_bytes: number;
  };
  readonly planned: PlannedModel;
  readonly rates: PlanningRates;
  readonly cluster: PlannedCluster;
  readonly decode: StepPrediction;
  readonly prompt: PromptPrediction;
  /** Whether every device's cap is large enough; where one is not, the rest is about the least caps that are. */
  readonly fits: boolean;
}
