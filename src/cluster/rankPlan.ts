import { z } from "zod";
import { kvTypes } from "../model/cells.ts";
import { describe } from "../model/support.ts";
import { rowBytes, type TensorTypeName, tensorTypes } from "../native/tensorTypes.ts";
import { type RankDescription, rankDescription } from "../plan/rankDescription.ts";
import { mostRanks, mostSlots, planShares } from "../plan/shares.ts";
import type { GgufModel, GgufTensor, GgufValue } from "../weights/gguf/model.ts";

const count = z
  .int()
  .min(1)
  .max(2 ** 31);
const scalar = z.union([z.number(), z.boolean(), z.string().max(256)]);

const tensorOutline = z
  .strictObject({
    name: z.string().max(64),
    type: z.enum(Object.keys(tensorTypes) as [TensorTypeName, ...TensorTypeName[]]),
    shape: z.array(count).min(1).max(4),
  })
  .refine(({ shape }) => Number.isSafeInteger(shape.reduce((product, length) => product * length, 1)), "is too large")
  .refine(({ type, shape }) => shape[0]! % tensorTypes[type].blockElements === 0, "has parts of blocks");

/**
 * A model as its header describes it, without tokenizer, template and files: what a worker needs to find out what it
 * is to compute. It does so by the same functions as the coordinator, which check what they are given.
 */
const modelOutline = z.strictObject({
  hash: z.string().regex(/^[0-9a-f]{64}$/),
  name: z.string().max(256),
  metadata: z.record(z.string().max(256), z.union([scalar, z.array(z.number()).max(8192)])),
  tensors: z
    .array(tensorOutline)
    .max(65_536)
    .refine((tensors) => new Set(tensors.map(({ name }) => name)).size === tensors.length, "has a tensor twice"),
});

/** How a worker is to run its share. */
const engineOutline = z.strictObject({
  context: z
    .int()
    .min(1)
    .max(2 ** 24),
  batch: z.int().min(1).max(65_536),
  kvType: z.enum(Object.keys(kvTypes) as [keyof typeof kvTypes, ...(keyof typeof kvTypes)[]]),
  slots: z.int().min(1).max(mostSlots),
  storedCells: z
    .int()
    .min(0)
    .max(2 ** 31),
  trace: z.boolean().optional(),
});

/** What the plan of a rank says, as it crosses the control channel. */
export const rankPlanSchema = z.strictObject({
  /** Rank 0 is the coordinator's. */
  rank: z
    .int()
    .min(1)
    .max(mostRanks - 1),
  shares: z.strictObject({
    /** By rank. */
    relative: z.array(z.number().min(0).max(1e9)).min(1).max(mostRanks),
    head: z.enum(["coordinator", "sharded"]),
  }),
  model: modelOutline,
  engine: engineOutline,
});

/** See `rankPlanSchema`. */
export type RankPlan = z.infer<typeof rankPlanSchema>;

/** The outline of a model, of which a tokenizer's or a template's texts are no part. */
export function outlineOf(model: GgufModel, hash: string): RankPlan["model"] {
  const architecture = model.metadata.get("general.architecture");
  const wanted = [...model.metadata].filter(
    ([key]) => key === "general.architecture" || key.startsWith(`${String(architecture)}.`),
  );
  const metadata = Object.fromEntries(wanted.map(([key, value]) => [key, plain(value)]));
  const tensors = [...model.tensors.values()].map(({ name, type, shape }) => ({ name, type, shape: [...shape] }));
  return { hash, name: String(model.metadata.get("general.name") ?? "").slice(0, 256), metadata, tensors };
}

/** What a rank is to run, found out from its plan. Throws `MODEL_UNSUPPORTED` or `SHARES_INVALID`. */
export function rankOf({ model, shares, rank }: RankPlan): RankDescription {
  const metadata = new Map<string, GgufValue>(
    Object.entries(model.metadata).map(([key, value]) => [key, typed(value)]),
  );
  const tensors = new Map(model.tensors.map((tensor) => [tensor.name, located(tensor)]));
  const description = describe({ files: [], fileBytes: [], version: 3, metadata, tensors });
  return rankDescription(description, planShares(description, shares.relative, shares), rank);
}

function plain(value: GgufValue): z.infer<typeof scalar> | number[] {
  return typeof value === "object"
    ? Array.from(value as ArrayLike<unknown>, Number)
    : (value as number | string | boolean);
}

function typed(value: z.infer<typeof scalar> | number[]): GgufValue {
  return Array.isArray(value) ? Float64Array.from(value) : value;
}

/** A tensor whose bytes come over the network. */
function located({ name, type, shape }: RankPlan["model"]["tensors"][number]): GgufTensor {
  const rows = shape.slice(1).reduce((product, dimension) => product * dimension, 1);
  return { name, type, shape, file: 0, offset: 0, bytes: rows * rowBytes(type, shape[0]!) };
}
