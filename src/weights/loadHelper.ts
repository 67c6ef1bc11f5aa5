import { Worker } from "node:worker_threads";
import { type ErrorFacts, StelliumError } from "../errors.ts";
import { threadScript } from "../system/threadScript.ts";
import type { LoadFiles, LoadTask } from "./loader.ts";

/** Runs `loadWeights` on a thread of its own. Rejects with `FILE_UNREADABLE`. */
export function loadBeside(files: LoadFiles, tasks: readonly LoadTask[], counters: Int32Array): Promise<void> {
  const workerData = { files, tasks, counters };
  const thread = new Worker(threadScript("loader"), { workerData });
  return new Promise((resolve, reject) => {
    thread.once("message", ({ code, values }: ErrorFacts) => reject(new StelliumError(code, values)));
    thread.once("error", reject);
    thread.once("exit", () => resolve());
  });
}
