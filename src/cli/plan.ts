import { describe } from "../engine/architectures/support.ts";
import type { ModelDescription } from "../engine/modelDescription.ts";
import { StelliumError } from "../errors.ts";
import { readModelHeader } from "../models/modelHeader.ts";
import type { DeviceMemory } from "../plan/deviceMemory.ts";
import { predictPrompt, predictStep } from "../plan/latency.ts";
import { getString, requireString } from "../weights/gguf/metadata.ts";
import type { GgufModel } from "../weights/gguf/model.ts";
import type { Values } from "./arguments/option.ts";
import { sharesOf } from "./clusterOptions.ts";
import type { planOptions } from "./commands.ts";
import { formatBytes } from "./format.ts";
import type { PlanFacts } from "./plan/facts.ts";
import { type PlannedModel, planModel } from "./plan/plannedModel.ts";
import { type Rates, ratesOf } from "./plan/rates.ts";
import { planReport } from "./plan/report.ts";
import { formatCap, planText } from "./plan/table.ts";
import { requireModel } from "./requireModel.ts";

type PlanValues = Values<typeof planOptions>;

/**
 * Tells, on stdout, how a model would be shared out, what each device's memory would hold, and how long a token would
 * take, without loading anything: a GGUF's header is enough. Throws `OUT_OF_MEMORY` afterwards where a cap is too small.
 */
export async function plan(values: PlanValues, signal: AbortSignal): Promise<void> {
  const { offline } = values;
  const model = await readModelHeader(requireModel(values.model), { offline, signal, dataMayBeMissing: true });
  const path = model.files[0]!;
  const description = await describe(model);
  const wire = values.wire ?? "f16";
  const shares = values.shares === undefined ? undefined : sharesOf(values.shares);
  const planned = planModel(description, { ...values, wire, shares });
  refuseSpare(values, planned.ranks.length);
  const rates = await ratesOf({ ...values, path, weightBytes: mostWeightBytes(planned) }, planned.ranks.length);
  const facts = {
    model: modelFacts(model, description),
    ...predict({ ...values, wire }, description, planned, rates),
  };
  const text = values.json ? JSON.stringify(planReport(facts), null, 2) : planText(facts);
  process.stdout.write(`${text}\n`);
  refuse(planned);
}

/** A figure for a device that is not planned was meant otherwise. */
function refuseSpare({ memory, compute, disk }: PlanValues, devices: number): void {
  for (const [flag, figures] of Object.entries({ memory, compute, disk })) {
    if (figures === undefined || figures.length <= devices) continue;
    const detail = `--${flag} has ${figures.length} figures, and there ${devices === 1 ? "is 1 device" : `are ${devices} devices`}`;
    throw new StelliumError("BAD_USAGE", { detail });
  }
}

function modelFacts(model: GgufModel, { blocks }: ModelDescription): PlanFacts["model"] {
  const weights = blocks.flatMap((block) => block.weights);
  return {
    path: model.files[0]!,
    name: getString(model, "general.name") ?? null,
    architecture: requireString(model, "general.architecture"),
    weight_bytes: weights.reduce((sum, { tensor }) => sum + tensor.bytes, 0),
  };
}

function mostWeightBytes({ ranks }: PlannedModel): number {
  return Math.max(...ranks.map(({ memory }) => memory.weightBytes));
}

function predict(
  { wire, collective = "auto", promptTokens, promptSpeedup }: PlanValues & { wire: NonNullable<PlanValues["wire"]> },
  { hyperparameters }: ModelDescription,
  planned: PlannedModel,
  rates: Rates,
): Omit<PlanFacts, "model"> {
  const devices = planned.ranks.map(({ memory }, rank) => ({ memory, rates: rates.devices[rank]! }));
  const { embeddingLength } = hyperparameters;
  const cluster = { devices, embeddingLength, link: rates.link, wire, collective, promptSpeedup };
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

/** Names the first device whose cap is too small, with each item, and the least cap that would do. */
function refuse({ ranks }: PlannedModel): void {
  const rank = ranks.findIndex(({ memory }) => !memory.fits);
  if (rank === -1) return;
  const { memory } = ranks[rank]!;
  throw new StelliumError("OUT_OF_MEMORY", {
    what: `device ${rank} (${itemsOf(memory)})`,
    needed: `a cap of at least ${formatCap(memory.leastCapBytes)}`,
    available: formatBytes(memory.capBytes!),
  });
}

function itemsOf({ window, kvBytes, computeBytes, linkBytes, runtimeBytes }: DeviceMemory): string {
  const items = { window: window.leastBytes, "KV cache": kvBytes, compute: computeBytes, links: linkBytes };
  const all = Object.entries({ ...items, runtime: runtimeBytes }).filter(([, bytes]) => bytes > 0);
  return all.map(([name, bytes]) => `${name} ${formatBytes(bytes)}`).join(", ");
}
