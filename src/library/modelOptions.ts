import { z } from "zod";
import type { ClusterOptions } from "../cluster/clusterOptions.ts";
import { parseAddress } from "../cluster/control/address.ts";
import { JoinToken } from "../cluster/token.ts";
import { collectiveNames } from "../collective/collective.ts";
import { type WireName, wireNames } from "../collective/wire.ts";
import type { KvType } from "../model/cells.ts";
import { mostRanks } from "../plan/shares.ts";
import type { TextModelOptions } from "../serving/textModel.ts";
import { fields } from "./checkOptions.ts";

/** How far something is that takes its time. */
export interface LoadProgress {
  /** `fetching`: the model comes over the network; `slicing`: this device's part is written; `loading`: it is read. */
  readonly phase: "fetching" | "slicing" | "loading";
  readonly bytes: number;
  readonly total: number;
}

/** Which other devices share a model. */
export interface ClusterSetup {
  /** How many devices there are beside this one. */
  readonly workers: number;
  /** Whether they are processes on this machine, started and ended with the model; otherwise they join. */
  readonly local?: boolean | undefined;
  /** Where devices join, such as `0.0.0.0:7711`; all addresses and any free port if absent. */
  readonly listen?: string | undefined;
  /** What admits devices, 16 characters or more; if absent, the one kept in the cache directory, or a new one. */
  readonly token?: string | undefined;
  /** Relative shares, this device's first; equal ones if absent. */
  readonly shares?: readonly number[] | undefined;
  /** Who computes logits: rank 0 if absent; with `sharded` all do, and workers see likely words. */
  readonly head?: "coordinator" | "sharded" | undefined;
  /** How partial sums travel; `f16` if absent. */
  readonly wire?: WireName | undefined;
  /** How they are summed up; what measures fastest if absent. */
  readonly collective?: "auto" | (typeof collectiveNames)[number] | undefined;
  /** Told where devices can join with which token, and each time one has. */
  readonly onJoin?: ((state: JoinInvitation) => void) | undefined;
}

/** Where devices can join, and how many have. */
export interface JoinInvitation {
  readonly address: string;
  readonly token: string;
  readonly joined: number;
  readonly wanted: number;
}

/** How a model is to be run; everything has a default. */
export interface ModelOptions {
  /** Tokens a sequence may have; 8192 if absent, or what the model was trained for where that is less. */
  readonly context?: number | undefined;
  /** Threads that compute; one for each physical core that affinity and CPU quota allow if absent. */
  readonly threads?: number | undefined;
  /** Prompt tokens computed at once; 512 if absent. */
  readonly batch?: number | undefined;
  /** Type of the KV cache; `f16` if absent. */
  readonly kv?: KvType | undefined;
  /** Bytes that this process may take in all; what is free, less a margin, if absent. */
  readonly memory?: number | undefined;
  /** Requests that are answered side by side, each with a whole context; 1 if absent. */
  readonly parallel?: number | undefined;
  /** Requests that may wait; 512 if absent. */
  readonly queue?: number | undefined;
  /** A Jinja chat template in place of the model's own. */
  readonly chatTemplate?: string | undefined;
  readonly cluster?: ClusterSetup | undefined;
  /** Where slices of models are kept; see `STELLIUM_CACHE_DIR`. */
  readonly cacheDir?: string | undefined;
  /** Bytes that all of them may take; what was used least recently makes room. Three quarters of what is free if absent. */
  readonly cacheSize?: number | undefined;
  /** Whether nothing may be fetched: the model has to be on this device. */
  readonly offline?: boolean | undefined;
  /** Told how far loading is, several times a second. */
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined;
}

const cluster = z.strictObject({
  workers: z
    .number()
    .int()
    .min(1)
    .max(mostRanks - 1),
  local: z.boolean().optional(),
  listen: fields.text,
  token: fields.text,
  shares: z.array(z.number().min(0).max(1e9)).min(1).max(mostRanks).optional(),
  head: z.enum(["coordinator", "sharded"]).optional(),
  wire: z.enum(wireNames).optional(),
  collective: z.enum(["auto", ...collectiveNames]).optional(),
  onJoin: fields.action,
});

/** Checks of `ModelOptions`. */
export const modelFields = {
  context: fields.count(1, 1 << 24),
  threads: fields.count(1, 512),
  batch: fields.count(1, 65_536),
  kv: z.enum(["f32", "f16", "q8_0"]).optional(),
  memory: fields.bytes,
  parallel: fields.count(1, 256),
  queue: fields.count(0, 65_536),
  chatTemplate: z.string().max(10_000_000).optional(),
  cluster: cluster.optional(),
  cacheDir: fields.text,
  cacheSize: fields.bytes,
  offline: z.boolean().optional(),
  onProgress: fields.action,
};

/** What a `TextModel` is opened with. Throws `BAD_USAGE` for a token or an address that cannot be one. */
export function textModelOptions(options: ModelOptions, signal: AbortSignal | undefined): TextModelOptions {
  const { context, threads, batch, kv, memory, parallel, queue, cacheDir, cacheSize, cluster, onProgress } = options;
  const tell = (phase: LoadProgress["phase"]) => (bytes: number, total: number) =>
    onProgress?.({ phase, bytes, total });
  return {
    ...{ context, threads, batch, kvType: kv, memory, parallel, queue, cacheDir, cacheSize, signal },
    cluster: cluster && clusterOptions(cluster, { cacheDir, cacheSize }),
    onProgress: tell("loading"),
    onCut: tell("slicing"),
  };
}

function clusterOptions(setup: ClusterSetup, cache: Pick<ModelOptions, "cacheDir" | "cacheSize">): ClusterOptions {
  const { workers, local = false, shares, head, wire, collective, listen, token, onJoin } = setup;
  return {
    ...{ workers, local, shares, head, wire, collective, ...cache },
    listen: listen === undefined ? undefined : parseAddress(listen),
    token: token === undefined ? undefined : JoinToken.parse(token),
    onJoin: ({ address, token, joined, wanted }) => onJoin?.({ address, token: token.text, joined, wanted }),
  };
}
