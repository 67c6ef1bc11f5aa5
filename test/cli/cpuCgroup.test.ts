import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { cpuAllowance } from "#stellium/system/cpuAllowance";
import { generateModel } from "../../bench/generateModel.mjs";
import { skipIf } from "../skip.ts";
import { ControlGroup, noGroups } from "./controlGroup.ts";

const reason = noGroups("cpu") ?? (cpuAllowance().cores < 2 ? "there is one core" : undefined);

describe("a control group with a CPU quota", skipIf(reason !== undefined, `${reason}`), () => {
  let directory: string;
  let env: Record<string, string | undefined>;
  let args: string[];
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "stellium-cpu-"));
    env = { STELLIUM_CACHE_DIR: directory, STELLIUM_THREADS: undefined };
    const model = join(directory, "model.gguf");
    await generateModel({ shape: "tinyllama-1.1b", type: "Q4_0", seed: 5, layers: 2, path: model });
    args = ["-m", model, "-c", "256"];
  });
  afterAll(() => rm(directory, { recursive: true }));

  const generate = ["generate", "-p", "hello", "-n", "2", "--json"];
  const { cores } = cpuAllowance();

  it("of one core has one thread, and says why", async () => {
    using group = new ControlGroup("cpu", "one", { cpu: 1 });
    const { code, stdout, stderr } = await group.stellium([...generate, ...args], env);
    expect(code, stderr).toBe(0);
    expect(stderr).toContain(`threads: 1 (CPU quota 1.0 of ${cores} cores)\n`);
    expect(JSON.parse(stdout).devices[0]).toMatchObject({ threads: 1, cores, cpu_quota: 1 });
  });

  it("of a parent counts, in the plan too", async () => {
    using outer = new ControlGroup("cpu", "outer", { cpu: 1 });
    using inner = new ControlGroup("cpu", "inner", {}, outer);
    const { code, stdout, stderr } = await inner.stellium(["plan", ...args], env);
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(new RegExp(`^threads +1 \\(CPU quota 1\\.0 of ${cores} cores\\)$`, "m"));
    const json = await inner.stellium(["plan", ...args, "--json"], env);
    expect(JSON.parse(json.stdout).threads).toEqual({ count: 1, from: "quota", cores, cpu_quota: 1 });
  });

  it("keeps more threads that were asked for, and warns", async () => {
    using group = new ControlGroup("cpu", "asked", { cpu: 1 });
    const { code, stdout, stderr } = await group.stellium([...generate, ...args, "-t", "2"], env);
    expect(code, stderr).toBe(0);
    expect(stderr).toContain("warn: --threads 2 is more than the CPU quota of 1.0 cores; --threads 1 is faster\n");
    expect(JSON.parse(stdout).devices[0].threads).toBe(2);
  });

  it("warns once with numbers when it is used up", async () => {
    using group = new ControlGroup("cpu", "throttled", { cpu: 0.2 });
    // Fewer than 20 periods say nothing, so it has to compute for longer than that also on a fast CPU.
    const long = ["generate", "-p", "hello", "-n", "180", "--ignore-eos"];
    const { code, stderr } = await group.stellium([...long, ...args], env);
    expect(code, stderr).toBe(0);
    expect(stderr.match(/throttled in \d+ % of periods: the CPU quota is 0\.2 cores/g)).toHaveLength(1);
  });
});
