import type { ClusterOptions } from "../cluster/clusterOptions.ts";
import { LocalWorkers } from "../cluster/localWorkers.ts";
import { log } from "../log.ts";
import { authorization, hubFromEnvironment } from "../models/hub.ts";
import type { TextModel, TextModelOptions } from "../serving/textModel.ts";
import { clusterOf } from "./clusterOptions.ts";
import { formatBytes } from "./format.ts";
import { tellOfDevices, tellOfJoining } from "./joinLine.ts";
import type { LoadValues } from "./options.ts";
import { tellPlan } from "./planReport.ts";
import { tellOfThisProcess } from "./processes/registry.ts";
import { Progress } from "./progress.ts";
import { locateModel, requireModel } from "./requireModel.ts";
import { traceFile } from "./traceFile.ts";

/** How many requests a model takes at a time, what it keeps of them, and who is told what there is to see. */
export type RequestOptions = Pick<
  TextModelOptions,
  "parallel" | "queue" | "prefixBytes" | "prefixFile" | "hostBytes" | "status" | "recordRouting"
>;

/** Loaded while local devices start. */
const loadServing = () => import("../serving/textModel.ts");

/** Loads the model that the options name, showing progress. Throws `BAD_USAGE` and what `TextModel.open` throws. */
export async function loadModel(
  values: LoadValues,
  signal: AbortSignal,
  requests: RequestOptions = {},
): Promise<TextModel> {
  const { context, threads, batch, kv, memory, window, noSlice, cacheDir, cacheSize } = values;
  if ((values.gpuLayers ?? "0") !== "0") log("warn", "this build computes on the CPU; -ngl has no effect");
  requireModel(values.model);
  const onTrace = values.trace === undefined ? undefined : traceFile(values.trace);
  const cluster = started(await clusterOf(values));
  try {
    const path = await locateModel(values, signal);
    const { TextModel } = await loadServing();
    using progress = new Progress("loading");
    const onProgress = (bytes: number, total: number) => progress.update(bytes, total);
    using cutting = new Progress("slicing");
    const onCut = (bytes: number, total: number) => cutting.update(bytes, total);
    const engine = { threads, context, batch, kvType: kv, memory, window, noSlice, cacheDir, cacheSize };
    const reports = { onPlan: tellPlan, onStored: tellStored, onCut, onProgress, onTrace };
    const hub = await hubFromEnvironment();
    const headers = (address: string) => authorization(hub, address);
    const textModel = await TextModel.open(path, { ...engine, ...requests, ...reports, headers, cluster, signal });
    tellOfThisProcess({ model: values.model, rank: 0, devices: (cluster?.workers ?? 0) + 1, memoryCap: memory });
    warnBeyondTraining(textModel);
    return textModel;
  } catch (error) {
    await cluster?.processes?.[Symbol.asyncDispose]();
    throw error;
  }
}

/** Starts the devices that are to be on this machine, for they take longest; others are told how to join. */
function started(cluster: ClusterOptions | undefined): ClusterOptions | undefined {
  if (cluster === undefined) return undefined;
  return cluster.local
    ? { ...cluster, processes: new LocalWorkers(cluster.workers) }
    : { ...cluster, onJoin: tellOfJoining, onDevices: tellOfDevices };
}

function tellStored(bytes: number, directory: string): void {
  process.stderr.write(`stored ${formatBytes(bytes)} of vocabulary and embedding in ${directory}\n`);
}

function warnBeyondTraining({ coordinator: { context, engine } }: TextModel): void {
  const trained = engine.description.hyperparameters.contextLength;
  if (context <= trained) return;
  log("warn", `the model was trained for ${trained} tokens; beyond them, of ${context}, it may write nonsense`);
}
