import { Worker } from "node:worker_threads";
import { type ErrorFacts, StelliumError } from "../errors.ts";
import type { LoadTask } from "./loader.ts";

/** Works off tasks on a thread of its own that no other loader has taken, as `loadWeights` does. Rejects with `FILE_UNREADABLE`. */
export function loadBeside(tasks: readonly LoadTask[], counters: Int32Array): Promise<void> {
  const thread = new Worker(new URL("./loaderThread.js", import.meta.url), { workerData: { tasks, counters } });
  return new Promise((resolve, reject) => {
    thread.once("message", ({ code, values }: ErrorFacts) => reject(new StelliumError(code, values)));
    thread.once("error", reject);
    thread.once("exit", () => resolve());
  });
}
