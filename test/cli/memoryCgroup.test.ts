import { spawn } from "node:child_process";
import { accessSync, constants, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { generateModel } from "../../bench/generateModel.mjs";
import { skipIf } from "../skip.ts";
import { program } from "./stellium.ts";

const root = "/sys/fs/cgroup/memory";
const group = join(root, `stellium-test-${process.pid}`);
const cap = 240e6;

/** Whether memory control groups of version 1 can be made here. */
function groupsCanBeMade(): boolean {
  try {
    accessSync(join(root, "memory.limit_in_bytes"), constants.R_OK);
    mkdirSync(group);
    rmdirSync(group);
    return true;
  } catch {
    return false;
  }
}

const possible = groupsCanBeMade();

interface Result {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Runs the command line, in the control group if asked to. */
function generate(model: string, cache: string, contained: boolean): Promise<Result> {
  const enter = contained ? `echo $$ > '${group}/cgroup.procs'; ` : "";
  const args = ["generate", "-m", model, "-p", "hello", "-n", "6", "-c", "256", "-t", "1", "--json"];
  const all = [program, ...args, ...(contained ? ["--memory", String(cap)] : [])];
  const env = { ...process.env, STELLIUM_CACHE_DIR: cache };
  const child = spawn("sh", ["-c", `${enter}exec "$0" "$@"`, process.execPath, ...all], { env });
  const result: Result = { code: null, stdout: "", stderr: "" };
  child.stdout.on("data", (text) => (result.stdout += text));
  child.stderr.on("data", (text) => (result.stderr += text));
  return new Promise((resolve) => child.once("close", (code) => resolve({ ...result, code })));
}

describe("a memory control group (version 1)", skipIf(!possible, `no control group can be made in ${root}`), () => {
  let directory: string;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "stellium-cgroup-"));
    mkdirSync(group);
    writeFileSync(join(group, "memory.limit_in_bytes"), String(cap));
    const path = join(directory, "model.gguf");
    await generateModel({ shape: "tinyllama-1.1b", type: "Q4_0", seed: 5, layers: 4, path });
  });
  afterAll(async () => {
    rmdirSync(group);
    await rm(directory, { recursive: true });
  });

  it("of exactly the cap suffices, for cutting the slice and for writing", async () => {
    const path = join(directory, "model.gguf");
    const resident = await generate(path, directory, false);
    const contained = await generate(path, directory, true);
    expect(contained.code, contained.stderr).toBe(0);
    const { tokens, devices } = JSON.parse(contained.stdout);
    expect(tokens).toEqual(JSON.parse(resident.stdout).tokens);
    expect(devices[0].window_bytes).toBeGreaterThan(0);
    expect(devices[0].peak_rss_bytes).toBeLessThanOrEqual(cap);
    const { oom_kill, peak } = charged();
    expect(oom_kill).toBe(0);
    expect(peak).toBeLessThanOrEqual(cap);
  });
});

function charged(): { oom_kill: number; peak: number } {
  const read = (name: string) => readFileSync(join(group, name), "utf8");
  const kills = /^oom_kill (\d+)/m.exec(read("memory.oom_control"))!;
  return { oom_kill: Number(kills[1]), peak: Number(read("memory.max_usage_in_bytes")) };
}
