import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { expected, ping, stream } from "../../bench/lan/check.mjs";
import { lanUnavailable, startLan } from "../../bench/lan/lan.mjs";
import { skipIf } from "../skip.ts";

type Device = Awaited<ReturnType<typeof startLan>>["devices"][number];

const reason = lanUnavailable();
const library = new URL("../../bench/lan/lan.mjs", import.meta.url).href;

/** What a LAN has in the kernel and on the disk. */
function remains(name: string): string[] {
  const groups = execFileSync("find", ["/sys/fs/cgroup", "-maxdepth", "6", "-name", name], { encoding: "utf8" });
  const folders = ["/run/netns", "/run/stellium-lan"].filter(existsSync).flatMap((folder) => readdirSync(folder));
  return [...groups.split("\n"), ...folders].filter((entry) => entry.includes(name));
}

async function output(child: ReturnType<typeof spawn>): Promise<string> {
  const chunks: Buffer[] = [];
  child.stdout?.on("data", (chunk) => chunks.push(chunk));
  await once(child, "close");
  return Buffer.concat(chunks).toString();
}

/** A process that makes a LAN, runs something on it, and says the LAN's name. */
async function maker(then = ""): Promise<{ child: ReturnType<typeof spawn>; name: string }> {
  const script = `const { startLan } = await import(${JSON.stringify(library)});
    const lan = await startLan({ devices: 2 });
    lan.devices[0].spawn("sleep", ["60"]).once("spawn", () => console.log(lan.name));
    ${then}`;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", script], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  const [name] = await once(child.stdout!, "data");
  return { child, name: String(name).trim() };
}

describe("an emulated LAN", skipIf(reason !== undefined, `${reason}`), () => {
  it("has the latency and the rate that were asked for, and leaves nothing behind", async () => {
    const lan = await startLan({ devices: 3, latencyMs: 2, mbit: 100 });
    try {
      const [first, second, third] = lan.devices as [Device, Device, Device];
      const model = expected(lan.links[0]!, lan.links[1]!);
      for (const to of [second, third]) {
        // The fastest one: others wait for a processor as well, if there is other work.
        const { minUs } = await ping(first, to);
        expect(minUs).toBeGreaterThan(model.pingUs - 20);
        expect(minUs).toBeLessThan(model.pingUs + 800);
      }
      const rates: number[] = [];
      while (rates.length < 5 && !(Math.max(...rates) > 80)) {
        rates.push((await stream(first, second, { seconds: 1.5 })).mbit);
      }
      expect(Math.max(...rates)).toBeGreaterThan(80);
      expect(Math.max(...rates)).toBeLessThan(model.streamMbit * 1.03);
      const { ports } = await lan.counters();
      expect(ports[1]!.down.bytes).toBeGreaterThan(5_000_000);
      expect(remains(lan.name)).not.toEqual([]);
    } finally {
      await lan[Symbol.asyncDispose]();
    }
    expect(remains(lan.name)).toEqual([]);
  });

  it("gives each device its own links and limits", async () => {
    const lan = await startLan({ devices: 2, latencyMs: 0.5, perDevice: [{ latencyMs: 3.5, upMbit: 20 }] });
    try {
      expect(lan.links[0]).toEqual({ latencyMs: 3.5, jitterMs: 0, upMbit: 20, downMbit: 300 });
      const [first, second] = lan.devices as [Device, Device];
      expect((await ping(first, second, { count: 5 })).medianUs).toBeGreaterThan(4000);
      const hungry = "const kept = []; for (;;) kept.push(Buffer.alloc(1 << 20, 1));";
      const child = first.spawn(process.execPath, ["-e", hungry], { memory: 100 << 20, cpu: 0.5, stdio: "ignore" });
      expect(await once(child, "exit")).toEqual([null, "SIGKILL"]);
      const { peakBytes, oomKills, throttledPeriods } = first.stat();
      expect(peakBytes).toBe(100 << 20);
      expect(oomKills).toBeGreaterThan(0);
      expect(throttledPeriods).toBeGreaterThan(0);
      expect(second.stat().oomKills).toBe(0);
      expect(await output(second.spawn("ip", ["-brief", "addr"]))).toContain(second.address);
    } finally {
      await lan[Symbol.asyncDispose]();
    }
  });

  it.each(["SIGTERM", "SIGINT"] as const)("goes with the process that made it, at %s", async (signal) => {
    const { child, name } = await maker();
    expect(remains(name)).not.toEqual([]);
    child.kill(signal);
    expect(await once(child, "exit")).toEqual([null, signal]);
    expect(remains(name)).toEqual([]);
  });

  it("goes with a process that crashes", async () => {
    const { child, name } = await maker('setTimeout(() => { throw new Error("crash"); }, 300);');
    expect((await once(child, "exit"))[0]).toBe(1);
    expect(remains(name)).toEqual([]);
  });

  it("is removed by the next one where its maker was killed", async () => {
    const { child, name } = await maker();
    child.kill("SIGKILL");
    await once(child, "exit");
    expect(remains(name)).not.toEqual([]);
    const next = await startLan({ devices: 2 });
    expect(remains(name)).toEqual([]);
    await next[Symbol.asyncDispose]();
  });
});
