import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { describe, expect, it } from "vitest";
import { skipOnWindows } from "../skip.ts";

const module = JSON.stringify(new URL("../../dist/cli/endBySignal.js", import.meta.url).href);
const koffi = JSON.stringify(pathToFileURL(createRequire(import.meta.url).resolve("koffi")).href);

/** Runs a script in a process of its own. */
function run(script: string): Promise<{ signal: NodeJS.Signals | null; output: string }> {
  const child = spawn(process.execPath, ["--input-type=module", "--eval", script]);
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (output += data));
  return new Promise((resolve) => child.once("close", (_, signal) => resolve({ signal, output })));
}

describe("an end by a signal", skipOnWindows("signals"), () => {
  it.each(["SIGINT", "SIGKILL"] as const)("is by %s itself, whoever listens to it", async (signal) => {
    const script = `
      import { endBySignal } from ${module};
      if (${signal !== "SIGKILL"}) process.on(${JSON.stringify(signal)}, () => console.log("heard"));
      process.on("exit", () => console.log("exit"));
      endBySignal(${JSON.stringify(signal)});
      setTimeout(() => {}, 5000);`;
    expect(await run(script)).toEqual({ signal, output: "" });
  });

  it("is quiet, also where a thread is just loading native code", async () => {
    const ms = Array.from({ length: 12 }, (_, i) => 10 * i);
    for (const delay of ms) {
      const script = `
        import { Worker } from "node:worker_threads";
        import { endBySignal } from ${module};
        new Worker(${JSON.stringify(`import(${koffi})`)}, { eval: true });
        setTimeout(() => endBySignal("SIGINT"), ${delay});
        setTimeout(() => {}, 5000);`;
      expect(await run(script)).toEqual({ signal: "SIGINT", output: "" });
    }
  });
});
