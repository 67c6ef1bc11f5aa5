import { parentPort, workerData } from "node:worker_threads";
import { type ErrorFacts, StelliumError } from "../errors.ts";
import { type LoadFiles, type LoadTask, loadCounter, loadWeights } from "./loader.ts";

const { files, tasks, counters } = workerData as { files: LoadFiles; tasks: LoadTask[]; counters: Int32Array };

try {
  await loadWeights(files, tasks, counters);
} catch (error) {
  Atomics.store(counters, loadCounter.stop, 1);
  if (!(error instanceof StelliumError)) throw error;
  parentPort!.postMessage({ code: error.code, values: error.values } satisfies ErrorFacts);
}
