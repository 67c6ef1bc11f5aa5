import { mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Trials } from "#stellium/collective/calibrate";
import type { LinkMeasurements } from "#stellium/collective/choose";
import { type LinkLook, rateOf } from "#stellium/collective/measure";
import { isAlike, type Tuning } from "#stellium/collective/tune";
import { tuningFile } from "#stellium/collective/tuningFile";
import { runRanks } from "./ranks.ts";

/** A link over which a connection opens its window as TCP does, and how much was sent over it. */
function emulated(latencyMs: number, megabits: number) {
  const [rate, roundTrip] = [megabits * 125, 2 * latencyMs];
  let [window, sent] = [14_600, 0];
  const move = (bytes: number) => {
    sent += bytes;
    let ms = roundTrip;
    for (let left = bytes; left > 0; ) {
      const burst = Math.min(window, left);
      left -= burst;
      ms += left > 0 ? Math.max(burst / rate, roundTrip) : burst / rate;
      if (left > 0) window += burst;
    }
    return ms;
  };
  // What is moved when looking at a link.
  for (let i = 0; i < 2; i++) move(32 * 1024);
  return { move, sent: () => sent };
}

describe("the rate of a link", () => {
  const slow = [0.1, 1, 3].flatMap((latency) => [10, 50, 100, 300].map((megabits) => [latency, megabits] as const));
  it.each(slow)("of %f ms and %i Mbit/s is found by 1 MB each way", (latency, megabits) => {
    const { move, sent } = emulated(latency, megabits);
    expect(rateOf(move, latency) / 125).toBeCloseTo(megabits, -1);
    expect(sent()).toBeLessThan(1.1e6);
  });

  it.each([
    [0.1, 1000, 1.1e6],
    [3, 1000, 5e6],
    [10, 100, 1.1e6],
    [10, 300, 5e6],
    [10, 1000, 9e6],
    [50, 20, 2e6],
  ])("of %f ms and %i Mbit/s is found once its window is open, by %f bytes", (latency, megabits, most) => {
    const { move, sent } = emulated(latency, megabits);
    expect(Math.abs(rateOf(move, latency) / 125 / megabits - 1)).toBeLessThan(0.1);
    expect(sent()).toBeLessThan(most);
  });

  it("is measured by a bounded number of bytes, however long and fast the way", () => {
    const { move, sent } = emulated(300, 100_000);
    expect(rateOf(move, 300)).toBeGreaterThan(0);
    expect(sent()).toBeLessThan(9e6);
  });
});

function table(size: number, value: number): number[][] {
  return Array.from({ length: size }, (_, i) => Array.from({ length: size }, (_, j) => (i === j ? 0 : value)));
}

function look(latency: number, glance: number): LinkLook {
  return { size: 3, latencyMs: table(3, latency), glanceMs: table(3, glance) };
}

/** The same with another value in one place. */
function changed(values: readonly (readonly number[])[], from: number, to: number, value: number): number[][] {
  return values.map((row, i) => row.map((old, j) => (i === from && j === to ? value : old)));
}

describe("links", () => {
  it("are known again, disturbed ones too, and not where a device's have become others", () => {
    const before = look(1, 3);
    expect(isAlike(before, look(1.4, 4))).toBe(true);
    expect(isAlike(look(0.02, 0.1), look(0.2, 0.3))).toBe(true);
    expect(isAlike(before, look(3, 5))).toBe(false);
    expect(isAlike(before, look(1, 8))).toBe(false);
    expect(isAlike(before, { ...before, glanceMs: changed(before.glanceMs, 0, 1, 50) })).toBe(true);
    const slowDown = changed(changed(before.glanceMs, 0, 1, 50), 2, 1, 50);
    expect(isAlike(before, { ...before, glanceMs: slowDown })).toBe(false);
    const slowUp = changed(changed(before.glanceMs, 1, 0, 50), 1, 2, 50);
    expect(isAlike(before, { ...before, glanceMs: slowUp })).toBe(false);
  });

  it("that look as they did are not measured again, on any rank", async () => {
    interface Report {
      readonly tunings: { measurements: LinkMeasurements; trials: Trials; bytes: number }[];
      readonly remembered: number;
      readonly again: number;
    }
    const [first, ...others] = await runRanks<Report>(3, { job: "tuning" });
    const { tunings, remembered, again } = first!;
    const same = tunings.filter(({ measurements, trials }, i) => {
      const before = tunings[i - 1];
      return JSON.stringify([measurements, trials]) === JSON.stringify([before?.measurements, before?.trials]);
    });
    expect(same.length).toBeGreaterThan(0);
    expect(remembered).toBe(tunings.length - same.length);
    // Two pairs, in each of which a rank sends two glances and its part of the pings.
    for (const { bytes } of same) expect(bytes).toBeLessThan(2 * 72_000);
    expect(again).toBe(remembered + 1);
    for (const other of others) {
      const found = other.tunings.map(({ measurements, trials }) => ({ measurements, trials }));
      expect(found).toEqual(tunings.map(({ measurements, trials }) => ({ measurements, trials })));
      expect(other.remembered).toBe(0);
    }
  });
});

describe("the file of what was learned of a network", () => {
  let directory: string;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "stellium-test-"));
  });
  afterAll(() => rmSync(directory, { recursive: true }));

  const tuning: Tuning = {
    look: look(1, 3),
    measurements: { size: 3, latencyMs: table(3, 1), bytesPerMs: table(3, 1000) },
    trials: [{ bytes: 64, factors: [1, 2, 3, 4, 5] }],
  };

  function only(folder: string): string {
    const [name, ...more] = readdirSync(folder);
    expect(more).toEqual([]);
    return join(folder, name!);
  }

  it("brings it back for the same network only", () => {
    const folder = join(directory, "new", "folder");
    tuningFile(folder, ["a", "b"]).remember(tuning);
    expect(tuningFile(folder, ["a", "b"]).recall()).toEqual(tuning);
    expect(tuningFile(folder, ["b", "a"]).recall()).toBeUndefined();
  });

  it("counts for nothing when it is old, damaged or of another form", () => {
    const folder = join(directory, "damaged");
    const memory = tuningFile(folder, 1);
    expect(memory.recall()).toBeUndefined();
    memory.remember(tuning);
    const path = only(folder);
    const content = readFileSync(path, "utf8");
    const wrong = [
      "",
      content.slice(0, -5),
      "null",
      "[]",
      content.replace('"format":1', '"format":0'),
      content.replace("1000", "-1000"),
      content.replace("1000", '"1000"'),
      content.replace("[1,2,3,4,5]", "[1,2,3,4]"),
      content.replace('"size":3', '"size":4'),
      content.replace('"measurements"', '"others"'),
    ];
    for (const text of wrong) {
      writeFileSync(path, text);
      expect(memory.recall(), text).toBeUndefined();
    }
    writeFileSync(path, content);
    expect(memory.recall()).toEqual(tuning);
    const longAgo = new Date(Date.now() - 8 * 86_400_000);
    utimesSync(path, longAgo, longAgo);
    expect(memory.recall()).toBeUndefined();
  });

  it("does without where nothing can be written", () => {
    const path = join(directory, "a file");
    writeFileSync(path, "");
    const memory = tuningFile(path, 1);
    memory.remember(tuning);
    expect(memory.recall()).toBeUndefined();
  });
});
