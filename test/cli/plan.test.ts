import { mkdtempSync, rmSync, truncateSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { writeHeader } from "../../bench/generateModel.mjs";
import { model as bundled, stellium } from "./stellium.ts";

const directory = mkdtempSync(join(tmpdir(), "stellium-plan-"));
const path = join(directory, "70b.gguf");
const speeds = ["--disk", "1GB/s", "--compute", "20GB/s"];
const cluster = ["--devices", "8", "--memory", "768MB,512MB", "--link", "1ms,300mbit"];

beforeAll(async () => {
  const { header } = await writeHeader({ shape: "llama-2-70b", type: "Q4_0", path });
  // As a download that was cut off behind the header.
  truncateSync(path, header.length);
});
afterAll(() => rmSync(directory, { recursive: true }));

async function planned(args: readonly string[]) {
  const { code, stdout, stderr } = await stellium(["plan", "-m", path, ...args, "--json"]);
  return { code, stderr, report: JSON.parse(stdout) };
}

describe("a 70B model on eight devices, from its header", () => {
  it("fits, is held back by the disks, and is shared out whole", async () => {
    const { code, stderr, report } = await planned([...speeds, ...cluster, "-c", "1024"]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(report).toMatchObject({
      fits: true,
      context: 1024,
      sources: { compute: "given", disk: "given", link: "given" },
      decode: { limit: "disk", steady: false, network: { collective: "mesh", payload_bytes: 16384 } },
      prompt: { tokens: 512, steps: 2 },
    });
    expect(report.devices.map(({ memory_cap_bytes }: { memory_cap_bytes: number }) => memory_cap_bytes)).toEqual([
      768e6,
      ...Array(7).fill(512e6),
    ]);
    for (const device of report.devices) {
      expect(device.total_bytes).toBeLessThanOrEqual(device.memory_cap_bytes);
      expect(device.pinned_bytes + device.disk_bytes_per_token).toBe(device.weight_bytes);
      expect(device.disk_ms).toBeCloseTo(device.disk_bytes_per_token / 1e6);
      expect(device.shares).toEqual({ attention: 1, ffn: 3584 });
    }
    const most = Math.max(...report.devices.map(({ disk_ms }: { disk_ms: number }) => disk_ms));
    expect(report.decode.ms).toBeGreaterThanOrEqual(most);
    expect(report.decode.ms).toBeLessThan(1.02 * most);
  });

  it("reads as a table", async () => {
    const { code, stdout } = await stellium(["plan", path, ...speeds, ...cluster]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^links +1 ms, 300 Mbit\/s \(given\); mesh of 16\.4 kB \(f16\) takes 2\.76 ms$/m);
    expect(stdout.match(/^ +[0-7] .* 512 MB$/gm)).toHaveLength(7);
    expect(stdout).toMatch(/^its limit +the disk: /m);
    expect(Math.max(...stdout.split("\n").map((line) => line.length))).toBeLessThanOrEqual(120);
  });

  it("takes figures for each device, and unequal shares", async () => {
    const rates = ["--compute", "20GB/s,10GB/s", "--disk", "4GB/s,1GB/s,2GB/s"];
    const { report } = await planned([...rates, "--shares", "2,1,1", "--memory", "30GB"]);
    const rate = (key: string) => report.devices.map((device: Record<string, number>) => device[key]! / 1e9);
    expect(rate("compute_bytes_per_second")).toEqual([20, 10, 10]);
    expect(rate("disk_bytes_per_second")).toEqual([4, 1, 2]);
    expect(report.devices[0].shares.ffn).toBe(14336);
    expect(report.decode).toMatchObject({ limit: "compute", disk_ms: 0, steady: true });
    expect(report.devices[0].limit).toBe("compute");
    expect(report.sources.link).toBe("assumed");
  });

  it("is refused where a cap is too small, with each item and the least cap, which does", async () => {
    const small = await planned([...speeds, "--memory", "600MB"]);
    expect(small.report.fits).toBe(false);
    const { code, stdout, stderr } = await stellium(["plan", path, ...speeds, "--memory", "600MB"]);
    expect(code).toBe(1);
    expect(stdout).toContain("600 MB: too small, at least ");
    expect(stderr).toMatch(
      /^stellium: device 0 \(window [\d.]+ MB, KV cache [\d.]+ GB, compute [\d.]+ MB, runtime [\d.]+ MB\) needs a cap of at/,
    );
    const least = /at least (\d+) MB, and 600 MB is available/.exec(stderr)![1]!;
    expect((await planned([...speeds, "--memory", `${least}MB`])).report.fits).toBe(true);
    expect((await planned([...speeds, "--memory", `${Number(least) - 1}MB`])).code).toBe(1);
  });
});

it("measures what is not given, and says so", async () => {
  const { code, stdout } = await stellium(["plan", bundled, "--json"]);
  expect(code).toBe(0);
  const report = JSON.parse(stdout);
  expect(report.sources).toEqual({ compute: "measured", disk: "assumed", link: "assumed" });
  expect(report.devices).toHaveLength(1);
  expect(report.devices[0].compute_bytes_per_second).toBeGreaterThan(1e7);
  expect(report.devices[0]).toMatchObject({ memory_cap_bytes: null, disk_bytes_per_token: 0, limit: "compute" });
});

describe("bad figures", () => {
  it.each([
    [["--memory", "3GB,"], '--memory must be sizes such as 3GB or 768MB,512MB, not "3GB,"'],
    [["--memory", "0"], '--memory must be sizes such as 3GB or 768MB,512MB, not "0"'],
    [["--memory", "3GB,2GB"], "--memory has 2 figures, and there is 1 device"],
    [["--devices", "2", "--disk", "1GB/s,2GB/s,3GB/s"], "--disk has 3 figures, and there are 2 devices"],
    [["--disk", "fast"], '--disk must be rates such as 1GB/s or 2GB/s,500MB/s, not "fast"'],
    [["--disk", "0mbit"], '--disk must be rates such as 1GB/s or 2GB/s,500MB/s, not "0mbit"'],
    [["--link", "300mbit"], '--link must be a latency and a rate, such as 1ms,300mbit or 200us,1gbit, not "300mbit"'],
    [["--link", "2h,1gbit"], '--link must be a latency and a rate, such as 1ms,300mbit or 200us,1gbit, not "2h,1gbit"'],
  ])("%j", async (args, said) => {
    const { code, stdout, stderr } = await stellium(["plan", bundled, ...args]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toBe(`stellium: ${said}. See \`stellium plan --help\` for what there is.\n`);
  });

  it("of shares", async () => {
    const { code, stderr } = await stellium(["plan", bundled, "--devices", "2", "--shares", "1,2,3"]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^stellium: the model cannot be shared out: there are 2 devices and 3 shares\./);
  });
});

describe("experts of Qwen3-30B-A3B, from its header", () => {
  const headers = new Map<string, string>();
  beforeAll(async () => {
    for (const type of ["Q4_K", "Q4_0"] as const) {
      const file = join(directory, `30b-${type}.gguf`);
      const { header } = await writeHeader({ shape: "qwen3-30b-a3b", type, path: file });
      truncateSync(file, header.length);
      headers.set(type, file);
    }
  });
  const plan = (type: string, ...args: string[]) =>
    stellium(["plan", "-m", headers.get(type)!, ...speeds, "--devices", "4", "--memory", "4GB", "-c", "512", ...args]);

  it("are dealt, since blocks of 256 columns leave three parts of each for four devices", async () => {
    const { code, stdout } = await plan("Q4_K", "--json");
    expect(code).toBe(0);
    const { expert_split, devices } = JSON.parse(stdout);
    expect(expert_split).toBe("dealt");
    const [, ...others] = devices.map(({ weight_bytes }: { weight_bytes: number }) => weight_bytes);
    expect(Math.max(...others) / Math.min(...others)).toBeLessThan(1.001);
    expect((await plan("Q4_K")).stdout).toContain("one expert has only 3 parts (of 256 columns)");
  });

  it("are divided by columns, of which blocks of 32 leave enough", async () => {
    const { code, stdout } = await plan("Q4_0", "--json");
    expect(code).toBe(0);
    const { expert_split, devices } = JSON.parse(stdout);
    expect(expert_split).toBe("columns");
    for (const { shares } of devices) expect(shares.experts).toBe(192);
    expect((await plan("Q4_0")).stdout).not.toContain("one expert");
  });
});
