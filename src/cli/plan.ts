import { StelliumError } from "../errors.ts";
import type { PlannedModel } from "../library/planning/plannedModel.ts";
import { predictPlan } from "../library/planning/predictPlan.ts";
import { planReport } from "../library/planning/report.ts";
import type { DeviceMemory } from "../plan/deviceMemory.ts";
import type { Values } from "./arguments/option.ts";
import { sharesOf } from "./clusterOptions.ts";
import type { planOptions } from "./commandOptions.ts";
import { formatBytes } from "./format.ts";
import { formatCap, planText } from "./planTable.ts";
import { requireModel } from "./requireModel.ts";

type PlanValues = Values<typeof planOptions>;

/**
 * Tells, on stdout, how a model would be shared out, what each device's memory would hold, and how long a token would
 * take, without loading anything: a GGUF's header is enough. Throws `OUT_OF_MEMORY` afterwards where a cap is too small.
 */
export async function plan(values: PlanValues, signal: AbortSignal): Promise<void> {
  const model = requireModel(values.model);
  const wire = values.wire ?? "f16";
  const shares = values.shares === undefined ? undefined : sharesOf(values.shares);
  refuseSpare(values, values.devices ?? shares?.length ?? 1);
  const facts = await predictPlan({ ...values, model, wire, shares }, signal);
  const text = values.json ? JSON.stringify(planReport(facts), null, 2) : planText(facts);
  process.stdout.write(`${text}\n`);
  refuse(facts.planned);
}

/** A figure for a device that is not planned was meant otherwise. */
function refuseSpare({ memory, compute, disk }: PlanValues, devices: number): void {
  for (const [flag, figures] of Object.entries({ memory, compute, disk })) {
    if (figures === undefined || figures.length <= devices) continue;
    const detail = `--${flag} has ${figures.length} figures, and there ${devices === 1 ? "is 1 device" : `are ${devices} devices`}`;
    throw new StelliumError("BAD_USAGE", { detail });
  }
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
