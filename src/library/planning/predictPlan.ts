import { StelliumError } from "../../errors.ts";
import type { ModelDescription } from "../../model/describeModel.ts";
import { blockWeightBytes } from "../../model/expertWeights.ts";
import { inputValues } from "../../model/hyperparameters.ts";
import { routingFacts } from "../../model/routing.ts";
import { describe } from "../../model/support.ts";
import { readModelHeader } from "../../models/modelHeader.ts";
import { type LinkFigures, type PlannedCluster, predictPrompt, predictStep } from "../../plan/latency.ts";
import type { RoutingFacts } from "../../trace/routing.ts";
import { getString, requireString } from "../../weights/gguf/metadata.ts";
import type { GgufModel } from "../../weights/gguf/model.ts";
import type { DeviceFigures } from "./deviceFigures.ts";
import type { PlanFacts } from "./facts.ts";
import { type PlannedModel, planModel, type WantedPlan } from "./plannedModel.ts";
import { type PlanningRates, ratesOf } from "./rates.ts";
import { recordedReplay } from "./recordedReplay.ts";

/** A request to predict how fast a model runs on given devices. */
export interface PredictionRequest extends WantedPlan {
  /** Path, URL or name. */
  readonly model: string;
  readonly offline?: boolean | undefined;
  readonly threads: number | undefined;
  /** Bytes of weights per second that each device computes with; measured here if absent. */
  readonly compute: DeviceFigures | undefined;
  /** Bytes per second that each device reads from its disk; measured here if absent. */
  readonly disk: DeviceFigures | undefined;
  readonly link: LinkFigures | undefined;
  readonly collective: PlannedCluster["collective"] | undefined;
  readonly promptTokens: number;
  /** Prompt tokens that are computed in the time of one that is written. */
  readonly promptSpeedup: number;
  /** Path of a routing record; all experts equally likely if absent. */
  readonly routing?: string | undefined;
}

/**
 * Predicts how a model would be divided, what each device's memory would hold, and how long a token would take. Reads only
 * the model's header. Throws `SHARES_INVALID` and the errors of `readModelHeader`; for a routing record `ROUTING_INVALID`,
 * `FILE_UNREADABLE`, and `BAD_USAGE` if it is of another model.
 */
export async function predictPlan(wanted: PredictionRequest, signal: AbortSignal | undefined): Promise<PlanFacts> {
  const { model: name, offline } = wanted;
  const model = await readModelHeader(name, { offline, signal, dataMayBeMissing: true });
  const description = describe(model);
  const planned = planModel(description, wanted);
  const hitRate = wanted.routing === undefined ? undefined : await recordedHitRate(wanted.routing, description);
  const measured = { ...wanted, path: model.files[0]!, weightBytes: mostWeightBytes(planned) };
  const rates = await ratesOf(measured, planned.ranks.length);
  return { model: modelFacts(model, description), ...predict({ ...wanted, hitRate }, description, planned, rates) };
}

/** See `PlannedCluster.hitRate`. */
async function recordedHitRate(path: string, description: ModelDescription): Promise<PlannedCluster["hitRate"]> {
  const own = routingFacts(description) ?? { layers: [], experts: 0, used: 0 };
  const replay = await recordedReplay(path, (recorded) => demandSame(path, recorded, own));
  return (part) => replay.hitRate(part * replay.units);
}

function demandSame(path: string, recorded: RoutingFacts, own: RoutingFacts): void {
  if (recorded.experts === own.experts && String(recorded.layers) === String(own.layers)) return;
  const of = ({ experts, layers }: RoutingFacts) => `${experts} experts in each of ${layers.length} layers`;
  const detail = `${path} was recorded of another model: that has ${of(recorded)}, this one ${of(own)}`;
  throw new StelliumError("BAD_USAGE", { detail });
}

function modelFacts(model: GgufModel, { blocks }: ModelDescription): PlanFacts["model"] {
  return {
    path: model.files[0]!,
    name: getString(model, "general.name") ?? null,
    architecture: requireString(model, "general.architecture"),
    weight_bytes: blocks.reduce((sum, block) => sum + blockWeightBytes(block), 0),
  };
}

function mostWeightBytes({ ranks }: PlannedModel): number {
  return Math.max(...ranks.map(({ memory }) => memory.weightBytes));
}

function predict(
  {
    wire,
    collective = "auto",
    promptTokens,
    promptSpeedup,
    hitRate,
  }: PredictionRequest & Pick<PlannedCluster, "hitRate">,
  { hyperparameters }: ModelDescription,
  planned: PlannedModel,
  rates: PlanningRates,
): Omit<PlanFacts, "model"> {
  const devices = planned.ranks.map(({ memory }, rank) => ({ memory, rates: rates.devices[rank]! }));
  const { embeddingLength } = hyperparameters;
  const sent = { embeddingLength, inputValues: inputValues(hyperparameters) };
  const cluster = { devices, ...sent, link: rates.link, wire, collective, promptSpeedup, hitRate };
  const { batch, context } = planned.engine;
  return {
    planned,
    rates,
    cluster,
    decode: predictStep(cluster, 1),
    prompt: predictPrompt(cluster, Math.min(promptTokens, context), batch),
    fits: devices.every(({ memory }) => memory.fits),
  };
}
