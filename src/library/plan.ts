import { z } from "zod";
import { collectiveNames } from "../collective/collective.ts";
import { type WireName, wireNames } from "../collective/wire.ts";
import type { KvType } from "../model/cells.ts";
import type { LinkFigures } from "../plan/latency.ts";
import { mostRanks } from "../plan/shares.ts";
import { checkOptions, fields } from "./checkOptions.ts";
import { predictPlan } from "./planning/predictPlan.ts";
import { planReport } from "./planning/report.ts";

/** A model, and the devices that are to share it, which there may be or not. */
export interface PlanOptions {
  /** Path, URL or name. Of one that is not on this device, the header alone is read. */
  readonly model: string;
  /** How many devices share it; as many as `shares` has, or 1, if absent. */
  readonly devices?: number | undefined;
  /** Relative shares, rank 0's first; equal ones if absent. */
  readonly shares?: readonly number[] | undefined;
  /** Bytes that each device may take, rank 0's first; the last figure holds for all further ones. No bound if absent. */
  readonly memory?: readonly number[] | undefined;
  /** Bytes of weights per second that each device computes with; measured on this one if absent. */
  readonly compute?: readonly number[] | undefined;
  /** Bytes per second that each device reads from its disk; measured on this one, or assumed, if absent. */
  readonly disk?: readonly number[] | undefined;
  /** Between devices, one way; 1 ms and 300 Mbit/s if absent. */
  readonly link?: LinkFigures | undefined;
  readonly wire?: WireName | undefined;
  readonly collective?: "auto" | (typeof collectiveNames)[number] | undefined;
  readonly context?: number | undefined;
  readonly batch?: number | undefined;
  readonly kv?: KvType | undefined;
  readonly threads?: number | undefined;
  /** Blocks that the window holds; what fits, at most 3, if absent. */
  readonly window?: number | undefined;
  /** Length of the prompt that is foretold; 512 if absent. */
  readonly promptTokens?: number | undefined;
  /** Prompt tokens that are computed in the time of one that is written; 7 if absent. */
  readonly promptSpeedup?: number | undefined;
  /** File written by `stellium generate --record-routing`; all experts equally likely if absent. */
  readonly routing?: string | undefined;
  readonly offline?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What was foretold, as `stellium plan --json` gives it. Where `fits` is false, a device's cap is too small. */
export type Plan = ReturnType<typeof planReport>;

const figures = z
  .array(
    z
      .number()
      .positive()
      .max(2 ** 60),
  )
  .min(1)
  .max(mostRanks)
  .optional();
const schema = z.strictObject({
  model: z.string().min(1).max(10_000),
  devices: fields.count(1, mostRanks),
  shares: z.array(z.number().min(0).max(1e9)).min(1).max(mostRanks).optional(),
  memory: figures,
  compute: figures,
  disk: figures,
  link: z.strictObject({ latencyMs: z.number().min(0).max(60_000), bytesPerSecond: z.number().positive() }).optional(),
  wire: z.enum(wireNames).optional(),
  collective: z.enum(["auto", ...collectiveNames]).optional(),
  context: fields.count(1, 1 << 24),
  batch: fields.count(1, 65_536),
  kv: z.enum(["f32", "f16", "q8_0"]).optional(),
  threads: fields.count(1, 512),
  window: fields.count(1, 1024),
  promptTokens: fields.count(1, 1 << 24),
  promptSpeedup: z.number().min(1).max(1000).optional(),
  routing: z.string().min(1).max(10_000).optional(),
  offline: z.boolean().optional(),
  signal: fields.signal,
});

/**
 * Predicts what each device would hold of a model and how long a token would take. Nothing is loaded. Throws
 * `BAD_USAGE`, `SHARES_INVALID`, `MODEL_UNSUPPORTED`, `ROUTING_INVALID`, and what reading the model's header throws.
 */
export async function plan(options: PlanOptions): Promise<Plan> {
  checkOptions("options", schema, options);
  const { wire = "f16", promptTokens = 512, promptSpeedup = 7, signal, ...rest } = options;
  const wanted = { ...nothingWanted, ...rest, wire, promptTokens, promptSpeedup };
  return planReport(await predictPlan(wanted, signal));
}

const nothingWanted = {
  ...{ devices: undefined, shares: undefined, memory: undefined, window: undefined, context: undefined },
  ...{ batch: undefined, kv: undefined, threads: undefined, compute: undefined, disk: undefined },
  ...{ link: undefined, collective: undefined },
};
