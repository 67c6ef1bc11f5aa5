import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { model, start, stellium, until } from "./stellium.ts";

/** A complete span of a trace; times in microseconds. */
interface TraceSpan {
  name: string;
  pid: number;
  tid: number;
  ts: number;
  dur: number;
}

interface Trace {
  otherData: Record<string, string>;
  spans: TraceSpan[];
  /** Names of rows, such as `1 engine`. */
  rows: string[];
}

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "stellium-trace-"));
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

function readTrace(path: string): Trace {
  const { otherData, traceEvents } = JSON.parse(readFileSync(path, "utf8"));
  const names = traceEvents.filter(({ name }: { name: string }) => name === "thread_name");
  return {
    otherData,
    spans: traceEvents.filter(({ ph }: { ph: string }) => ph === "X"),
    rows: names.map(({ pid, args }: { pid: number; args: { name: string } }) => `${pid} ${args.name}`),
  };
}

/** Those of one row, in order of their starts, the longer of two first. */
function rowOf({ spans }: Trace, pid: number, tid: number): TraceSpan[] {
  return spans.filter((span) => span.pid === pid && span.tid === tid).sort((a, b) => a.ts - b.ts || b.dur - a.dur);
}

/** Spans that begin in another one and end behind it. */
function crossing(row: readonly TraceSpan[]): TraceSpan[] {
  const open: number[] = [];
  return row.filter(({ ts, dur }) => {
    while (open.length > 0 && open.at(-1)! <= ts) open.pop();
    const crosses = open.length > 0 && ts + dur > open.at(-1)! + 0.002;
    open.push(ts + dur);
    return crosses;
  });
}

const prompt = Array.from({ length: 20 }, (_, i) => `ROMEO: It is the ${i}th lark that sings. `).join("");

function args(path: string, ...more: string[]): string[] {
  return ["generate", "-m", model, "--cache-dir", join(folder, "cache"), "--trace", path, "--ignore-eos", ...more];
}

describe("--trace", () => {
  it("writes a row for each thread of each rank, whose spans nest and add up to what is reported", async () => {
    const path = join(folder, "three.json");
    const { code, stdout, stderr } = await stellium(
      args(path, "-p", prompt, "-n", "6", "--devices", "3", "-t", "1", "--json"),
    );
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const { devices } = JSON.parse(stdout) as { devices: { compute_ms: number; collective_count: number }[] };
    const trace = readTrace(path);
    const ranks = [0, 1, 2];
    // Workers have their slices read by threads of their own, also where all of it stays in memory.
    const threads = (rank: number) => [
      "engine",
      "communication",
      ...(rank > 0 ? ["reader 1", "reader 2", "reader 3"] : []),
    ];
    const rows = ranks.flatMap((rank) => threads(rank).map((thread) => `${rank} ${thread}`));
    // One reader may have been done before the other began.
    expect(rows).toEqual(expect.arrayContaining(trace.rows));
    expect(trace.rows).toEqual(expect.arrayContaining(rows.filter((row) => !row.includes("reader"))));
    for (const rank of [1, 2]) expect(trace.rows.some((row) => row.startsWith(`${rank} reader`))).toBe(true);
    for (const rank of ranks) {
      const [engine, communication] = [rowOf(trace, rank, 1), rowOf(trace, rank, 2)];
      expect([crossing(engine), crossing(communication)]).toEqual([[], []]);
      const computed = engine.filter(({ name }) => /^(attention \d+|ffn \d+|head)$/.test(name));
      const lastStep = engine.findLast(({ name }) => name === "step")!;
      const computeMs = (spans: TraceSpan[]) => spans.reduce((sum, { dur }) => sum + dur, 0) / 1000;
      const reported = devices[rank]!.compute_ms;
      // A worker may not have counted its last step yet.
      const least = computeMs(computed.filter(({ ts }) => ts < lastStep.ts));
      expect(reported).toBeGreaterThan(0.9 * least - 5);
      expect(reported).toBeLessThan(1.1 * computeMs(computed) + 5);
      const sums = [...engine, ...communication].filter(({ name }) => name.startsWith("sum "));
      // Broadcasts count as collectives, too.
      expect(sums.length).toBeGreaterThan(0.7 * devices[rank]!.collective_count);
      expect(sums.length).toBeLessThanOrEqual(devices[rank]!.collective_count);
      expect(engine.filter(({ name }) => name === "step").length).toBeGreaterThanOrEqual(6);
      expect(engine.filter(({ name }) => name === "load").length).toBe(1);
      // The prompt goes over the communication thread's links, single tokens over the engine's. Both encrypt.
      for (const row of [engine, communication]) {
        const kinds = new Set(row.map(({ name }) => name.replace(/ .*/, "")));
        expect([...kinds]).toEqual(expect.arrayContaining(["sum", "send", "cipher"]));
      }
    }
  });

  it("is what Perfetto reads: complete spans in microseconds, in rows that have names", async () => {
    const path = join(folder, "format.json");
    await stellium(args(path, "-p", prompt, "-n", "2", "--devices", "2", "-t", "1"));
    const { traceEvents, displayTimeUnit } = JSON.parse(readFileSync(path, "utf8"));
    expect(displayTimeUnit).toBe("ms");
    const named = new Set<string>();
    for (const event of traceEvents) {
      const row = `${event.pid} ${event.tid}`;
      if (event.ph === "M") {
        if (event.name === "thread_name") named.add(row);
        continue;
      }
      expect(event).toMatchObject({ ph: "X", name: expect.stringMatching(/./), cat: expect.stringMatching(/./) });
      expect(event.ts).toBeGreaterThanOrEqual(0);
      expect(event.dur).toBeGreaterThanOrEqual(0);
      if (!named.has(row)) throw new Error(`the row ${row} has no name`);
    }
    expect(named.size).toBeGreaterThanOrEqual(5);
    const amounts = traceEvents.filter(({ cat }: { cat: string }) => cat === "load" || cat === "cipher");
    for (const { args: figures } of amounts) expect(figures.bytes).toBeGreaterThan(0);
  });

  it("has the times of all ranks by one clock: they take a step together", async () => {
    const path = join(folder, "clock.json");
    await stellium(args(path, "-p", "ROMEO:", "-n", "8", "--devices", "2", "-t", "1"));
    const trace = readTrace(path);
    const [first, second] = [0, 1].map((rank) => rowOf(trace, rank, 1).filter(({ name }) => name === "step"));
    expect(first!.length).toBe(second!.length);
    for (const [i, ours] of first!.entries()) {
      const theirs = second![i]!;
      // Each waits for the other in each block, so that they overlap.
      expect(ours.ts).toBeLessThan(theirs.ts + theirs.dur);
      expect(theirs.ts).toBeLessThan(ours.ts + ours.dur);
    }
  });

  it("of one device has one row", async () => {
    const path = join(folder, "one.json");
    await stellium(args(path, "-p", "ROMEO:", "-n", "3"));
    const trace = readTrace(path);
    expect(trace.rows).toEqual(["0 engine"]);
    expect(trace.spans.map(({ name }) => name)).toContain("blocks");
  });

  it("has a row for each thread that reads streamed blocks, with all bytes that are reported, and keeps to the cap", async () => {
    const path = join(folder, "streamed.json");
    const capped = (cap: string) =>
      args(path, "-p", "ROMEO:", "-n", "6", "-c", "256", "-t", "1", "--json", "--memory", cap);
    const least = /needs (\d+ MB) at least/.exec((await stellium(capped("20MB"))).stderr)![1]!;
    const { code, stdout, stderr } = await stellium(capped(least));
    expect(code, stderr).toBe(0);
    const [device] = JSON.parse(stdout).devices;
    expect(device.peak_rss_bytes).toBeLessThanOrEqual(device.memory_cap_bytes);
    const { traceEvents } = JSON.parse(readFileSync(path, "utf8"));
    const trace = readTrace(path);
    expect(trace.rows).toEqual(["0 engine", "0 reader 1", "0 reader 2", "0 reader 3"]);
    const reads = traceEvents.filter(({ cat, ph, tid }: TraceSpan & { cat: string; ph: string }) => {
      return ph === "X" && tid > 2 && /^read (attention|ffn|head|other)/.test(cat);
    });
    const bytes = reads.reduce((sum: number, { args: figures }: { args: { bytes: number } }) => sum + figures.bytes, 0);
    // Reading ahead goes on behind the last step.
    expect(bytes).toBeGreaterThanOrEqual(device.disk_bytes_read);
    expect(bytes).toBeLessThanOrEqual(device.disk_bytes_read + device.window_bytes);
    const waits = rowOf(trace, 0, 1).filter(({ name }) => /^wait for disk (attention \d+|ffn \d+|head)$/.test(name));
    expect(waits.length).toBeGreaterThan(6);
    const waited = waits.reduce((sum, { dur }) => sum + dur, 0) / 1000;
    expect(Math.abs(waited - device.disk_wait_ms)).toBeLessThan(5 + 0.1 * device.disk_wait_ms);
  });

  it("is written when Ctrl-C ends it, with what the workers did", async () => {
    const path = join(folder, "interrupted.json");
    const { child, outcome, ended } = start(
      args(path, "-p", "ROMEO:", "-n", "-1", "-c", "4000", "--temp", "1", "--devices", "2", "-t", "1"),
    );
    await until(() => outcome.stdout.length > 20);
    child.kill("SIGINT");
    expect((await ended).code).toBe(130);
    const trace = readTrace(path);
    expect(trace.rows).toContain("0 engine");
    expect(trace.rows).toContain("1 engine");
  });

  it("is written by `run`, too", async () => {
    const path = join(folder, "run.json");
    const { code } = await stellium(["run", model, "Good morrow", "-n", "3", "--trace", path]);
    expect(code).toBe(0);
    expect(readTrace(path).rows).toEqual(["0 engine"]);
  });

  it("is refused before anything is loaded where it cannot be written", async () => {
    const path = join(folder, "nowhere", "trace.json");
    const { code, stderr } = await stellium(args(path, "-p", "ROMEO:", "-n", "1"));
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: `stellium: cannot write ${path}: ENOENT: no such file or directory. Check the path, its permissions and the room on the disk.\n`,
    });
    expect(existsSync(path)).toBe(false);
  });
});
