import { mkdtemp, open, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openSlice } from "#stellium/weights/sliceStore";
import { kinds } from "../kinds.ts";
import { stellium } from "./stellium.ts";

interface Device {
  memory_cap_bytes: number;
  peak_rss_bytes: number;
  weight_bytes: number;
  pinned_bytes: number;
  window_bytes: number;
  window_filled: number;
  disk_bytes_read: number;
}

describe.each(kinds)("stellium --memory with %s", (kind, path) => {
  let common: string[];
  let directory: string;
  let env: Record<string, string>;
  /** The least cap that the refusal of a smaller one names. */
  let least: string;

  beforeAll(async () => {
    common = ["generate", "-m", await path(), "-p", "ROMEO:", "-n", "12", "-c", "256", "-t", "1"];
    directory = await mkdtemp(join(tmpdir(), "stellium-memory-"));
    env = { STELLIUM_CACHE_DIR: directory };
    const { code, stderr } = await stellium([...common, "--memory", "20MB"], { env });
    expect(code).toBe(1);
    least = /needs (\d+ MB) at least/.exec(stderr)![1]!;
  });
  afterAll(() => rm(directory, { recursive: true }));

  async function generated(...args: string[]): Promise<{ tokens: number[]; devices: Device[]; stderr: string }> {
    const { code, stdout, stderr } = await stellium([...common, "--json", ...args], { env });
    expect(code, stderr).toBe(0);
    return { ...JSON.parse(stdout), stderr };
  }

  it("refuses what cannot fit, with each item and the least that would do", async () => {
    const { stderr } = await stellium([...common, "--memory", "20MB"], { env });
    expect(stderr).toMatch(
      /needs \d+ MB at least \(program and vocabulary \d+ MB, KV cache \d+ MB, intermediate results \d+ MB, window \d+ MB(, experts \d+ MB)?\), and 20 MB \(--memory\) is available/,
    );
    expect(await readdir(directory)).toEqual([]);
  });

  it("writes the same with the least it names, from a slice that is cut once, within the cap", async () => {
    const resident = await generated();
    expect(resident.devices[0]!.pinned_bytes).toBe(resident.devices[0]!.weight_bytes);
    expect(await readdir(directory)).not.toContain("slices");
    const capped = await generated("--memory", least);
    expect(capped.tokens).toEqual(resident.tokens);
    expect(capped.stderr).toMatch(/each step reads .* from disk; \d+ of \d+ blocks stay in memory/);
    const [device] = capped.devices;
    expect(device!.memory_cap_bytes).toBe(Number.parseInt(least, 10) * 1e6);
    expect(device!.peak_rss_bytes).toBeLessThanOrEqual(device!.memory_cap_bytes);
    expect(device!.window_bytes).toBeGreaterThan(0);
    expect(device!.window_filled).toBeGreaterThan(0);
    expect(device!.window_filled).toBeLessThanOrEqual(1);
    expect(device!.pinned_bytes + device!.window_bytes).toBeLessThan(device!.weight_bytes);
    // A token needs a quarter of the experts.
    expect(device!.disk_bytes_read).toBeGreaterThan((kind === "a dense model" ? 6 : 2) * device!.weight_bytes);
    expect(await readdir(join(directory, "slices"))).toHaveLength(1);
  });

  it("tells of a damaged slice, and repairs it at the next start", async () => {
    const { tokens } = await generated("--memory", least);
    const [name] = await readdir(join(directory, "slices"));
    const path = join(directory, "slices", name!);
    const position = await lastBlock(path);
    const file = await open(path, "r+");
    await file.write(Uint8Array.of(9, 9, 9, 9, 9, 9, 9, 9), 0, 8, position);
    await file.close();
    const { code, stderr } = await stellium([...common, "--memory", least], { env });
    expect(code, stderr).toBe(1);
    expect(stderr).toMatch(/block \d+ is damaged/);
    expect((await generated("--memory", least)).tokens).toEqual(tokens);
  });

  it("streams from the model's own file where no slice is wanted", async () => {
    const other = await mkdtemp(join(tmpdir(), "stellium-memory-"));
    const { devices } = await generated("--memory", least, "--no-slice", "--cache-dir", other);
    expect(devices[0]!.window_bytes).toBeGreaterThan(0);
    expect(await readdir(other)).toEqual([]);
    await rm(other, { recursive: true });
  });

  it("gives each of several devices that cap", async () => {
    const cap = `${Number.parseInt(least, 10) + 2} MB`;
    const { devices } = await generated("--memory", cap, "--devices", "2", "--window", "1");
    expect(devices.map((device) => device.memory_cap_bytes)).toEqual([1, 1].map(() => Number.parseInt(cap, 10) * 1e6));
    for (const device of devices) expect(device.peak_rss_bytes).toBeLessThanOrEqual(device.memory_cap_bytes);
  });

  it("takes sizes as people write them, from the environment too", async () => {
    const { code, stderr } = await stellium(common, { env: { ...env, STELLIUM_MEMORY: "20MB" } });
    expect([code, stderr]).toEqual([1, expect.stringContaining("20 MB (--memory)")]);
    const bad = await stellium([...common, "--memory", "much"], { env });
    expect([bad.code, bad.stderr]).toEqual([2, expect.stringContaining('"much" is not a size')]);
  });
});

/** Where the bytes of a slice's last filled block start. */
async function lastBlock(path: string): Promise<number> {
  await using slice = await openSlice(path);
  return slice.encoded.dataOffset + slice.header.blocks.filter(({ bytes }) => bytes > 0).at(-1)!.offset;
}
