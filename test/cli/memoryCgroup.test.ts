import { truncateSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { generateModel } from "../../bench/generateModel.mjs";
import { skipIf } from "../skip.ts";
import { ControlGroup, type Limits, noGroups } from "./controlGroup.ts";
import { model as bundled, stellium } from "./stellium.ts";

const reason = noGroups("memory");
const cap = 240e6;
const common = ["-p", "hello", "-n", "6", "-c", "256", "-t", "1", "--json"];

describe("a memory control group", skipIf(reason !== undefined, `${reason}`), () => {
  let directory: string;
  let model: string;
  let env: Record<string, string>;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "stellium-cgroup-"));
    env = { STELLIUM_CACHE_DIR: directory };
    model = join(directory, "model.gguf");
    await generateModel({ shape: "tinyllama-1.1b", type: "Q4_0", seed: 5, layers: 4, path: model });
  });
  afterAll(() => rm(directory, { recursive: true }));

  const group = (name: string, limits: Limits, parent?: ControlGroup) =>
    new ControlGroup("memory", name, limits, parent);
  const generate = ["generate", ...common, "-m"];

  it("of exactly the cap suffices, for cutting the slice and for writing", async () => {
    using exact = group("exact", { memory: cap });
    const resident = await stellium([...generate, model], { env });
    const contained = await exact.stellium([...generate, model, "--memory", String(cap)], env);
    expect(contained.code, contained.stderr).toBe(0);
    const { tokens, devices } = JSON.parse(contained.stdout);
    expect(tokens).toEqual(JSON.parse(resident.stdout).tokens);
    expect(devices[0].window_bytes).toBeGreaterThan(0);
    expect(devices[0].peak_rss_bytes).toBeLessThanOrEqual(cap);
    expect(exact.kills).toBe(0);
    expect(exact.peak).toBeLessThanOrEqual(cap);
  });

  it.each([1000e6, 700e6])("of %d bytes that has read a file of 620 MB has as much as before", async (memory) => {
    using full = group("full", { memory });
    // A hole takes no disk, but its pages take page cache as any others do.
    const hole = join(directory, "hole");
    writeFileSync(hole, "");
    truncateSync(hole, 620e6);
    expect((await full.run(["sh", "-c", 'cat "$0" > /dev/null', hole])).code).toBe(0);
    const { code, stdout, stderr } = await full.stellium([...generate, model], env);
    expect(code, stderr).toBe(0);
    const [device] = JSON.parse(stdout).devices;
    expect(device.memory_cap_bytes).toBeLessThan(memory);
    expect(device.memory_cap_bytes).toBeGreaterThan(0.85 * memory);
    expect(device.window_bytes).toBe(0);
    expect(full.kills).toBe(0);
  });

  it.each([150e6, 200e6, 300e6])("of %d bytes is never exceeded without --memory", async (memory) => {
    using small = group("small", { memory });
    const { code, stdout, stderr } = await small.stellium([...generate, bundled], env);
    const refused = /and (\d+) MB \(free in the control group, less a margin\) is available/.exec(stderr);
    const planned = code === 0 ? JSON.parse(stdout).devices[0].memory_cap_bytes : Number(refused?.[1]) * 1e6;
    expect(planned, stderr).toBeLessThanOrEqual(memory);
    expect(planned, stderr).toBeGreaterThan(0.8 * memory);
    expect(small.peak).toBeLessThanOrEqual(memory);
    expect(small.kills).toBe(0);
  });

  it("is bounded by its parent, whether memory is asked for or not", async () => {
    using outer = group("outer", { memory: 400e6 });
    using inner = group("inner", {}, outer);
    const capOf = async (...args: string[]) => {
      const { code, stdout, stderr } = await inner.stellium([...generate, bundled, ...args], env);
      expect(code, stderr).toBe(0);
      return JSON.parse(stdout).devices.map((device: { memory_cap_bytes: number }) => device.memory_cap_bytes);
    };
    const [free] = await capOf();
    expect(free).toBeGreaterThan(0.85 * 400e6);
    expect(free).toBeLessThan(400e6);
    const [asked] = await capOf("--memory", "2GB");
    expect(asked).toBeGreaterThan(400e6 - 65_536);
    expect(asked).toBeLessThanOrEqual(400e6);
    expect(outer.kills).toBe(0);
  });

  it("is divided among the devices in it, whatever is asked for", async () => {
    using shared = group("shared", { memory: 700e6 });
    const args = ["--devices", "2", "--memory", "2GB"];
    const { code, stdout, stderr } = await shared.stellium([...generate, bundled, ...args], env);
    expect(code, stderr).toBe(0);
    const { devices } = JSON.parse(stdout);
    const total = devices.reduce(
      (sum: number, device: { memory_cap_bytes: number }) => sum + device.memory_cap_bytes,
      0,
    );
    expect(total).toBeGreaterThan(699e6);
    expect(total).toBeLessThanOrEqual(700e6);
    expect(shared.kills).toBe(0);
  });
});
