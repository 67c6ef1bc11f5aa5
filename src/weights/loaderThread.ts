import { workerData } from "node:worker_threads";
import { type LoadTask, loadWeights } from "./loader.ts";

const { tasks, counters } = workerData as { tasks: LoadTask[]; counters: Int32Array };
await loadWeights(tasks, counters);
