import { log } from "../log.ts";
import { TextModel, type TextModelOptions } from "../serving/textModel.ts";
import { clusterOf } from "./clusterOptions.ts";
import { tellMemory } from "./memoryReport.ts";
import type { LoadValues } from "./options.ts";
import { Progress } from "./progress.ts";
import { requireModel } from "./requireModel.ts";

/** How many requests a model takes at a time, and what it keeps of them. */
export type RequestOptions = Pick<TextModelOptions, "parallel" | "queue" | "prefixBytes">;

/** Loads the model that the options name, showing progress. Throws `BAD_USAGE` and what `TextModel.open` throws. */
export async function loadModel(
  values: LoadValues,
  signal: AbortSignal,
  requests: RequestOptions = {},
): Promise<TextModel> {
  const { context, threads, batch, kv, memory, window, noSlice, cacheDir } = values;
  const path = requireModel(values.model);
  if ((values.gpuLayers ?? "0") !== "0") log("warn", "this build computes on the CPU; -ngl has no effect");
  using progress = new Progress("loading");
  const onProgress = (bytes: number, total: number) => progress.update(bytes, total);
  using cutting = new Progress("slicing");
  const onCut = (bytes: number, total: number) => cutting.update(bytes, total);
  const cluster = await clusterOf(values);
  const engine = { threads, context, batch, kvType: kv, memory, window, noSlice, cacheDir };
  const told = { onPlan: tellMemory, onCut, onProgress };
  const textModel = await TextModel.open(path, { ...engine, ...requests, ...told, cluster, signal });
  warnBeyondTraining(textModel);
  return textModel;
}

function warnBeyondTraining({ coordinator: { context, engine } }: TextModel): void {
  const trained = engine.description.hyperparameters.contextLength;
  if (context <= trained) return;
  log("warn", `the model was trained for ${trained} tokens; beyond them, of ${context}, it may write nonsense`);
}
