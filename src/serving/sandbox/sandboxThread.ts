import { parentPort } from "node:worker_threads";
import { StelliumError } from "../../errors.ts";
import { jobs } from "./jobs.ts";
import type { SandboxAnswer, SandboxJob } from "./sandbox.ts";

parentPort!.on("message", (job: SandboxJob) => parentPort!.postMessage(answerTo(job)));
parentPort!.postMessage("ready");

function answerTo({ name, input }: SandboxJob): SandboxAnswer {
  try {
    return { result: (jobs[name] as (input: unknown) => unknown)(JSON.parse(input)) };
  } catch (error) {
    if (error instanceof StelliumError) return { error: { code: error.code, values: error.values } };
    const reason = error instanceof Error ? error.message : String(error);
    return { error: { code: "UNEXPECTED", values: { reason } } };
  }
}
