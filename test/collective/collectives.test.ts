import { expect, test } from "vitest";
import type { Choice, LinkMeasurements } from "#stellium/collective/choose";
import { type CollectiveName, collectiveNames } from "#stellium/collective/collective";
import type { LinkStatistics } from "#stellium/collective/group";
import type { WireName } from "#stellium/collective/wire";
import { runRanks } from "./ranks.ts";

interface Case {
  readonly name: CollectiveName;
  readonly wire: WireName;
  readonly n: number;
  readonly digest: string;
  readonly expected: string;
  readonly worst: number;
}

const ciphers = ["none", "aes-256-gcm", "chacha20-poly1305"] as const;
/** Values are below 1000; a sum of N of them is rounded up to N + log N times, to so much of its magnitude. */
const precision: Record<WireName, number> = { f32: 1e-6, f16: 2 ** -11, q8_0: 1 / 200 };

test.each([1, 2, 3, 4, 5, 6, 7, 8, 9])("all collectives comply with %i ranks", async (size) => {
  const [cases = [], ...others] = await runRanks<Case[]>(size, { job: "compliance", cipher: ciphers[size % 3]! });
  expect(cases).toHaveLength(9 * 3 * collectiveNames.length);
  for (const [i, { name, wire, n, digest, expected, worst }] of cases.entries()) {
    const label = `${name} of ${n} values in ${wire}`;
    for (const other of others) expect(other[i]!.digest, label).toBe(digest);
    const exact = wire === "f32" && ["star", "exchange", "mesh"].includes(name);
    if (exact || size === 1) expect(digest, label).toBe(expected);
    expect(worst, label).toBeLessThanOrEqual(precision[wire] * 1000 * size * (size + 3));
  }
});

test.each([2, 3])("a sum of %i ranks that has been done before allocates next to nothing", async (size) => {
  interface Steady {
    readonly name: CollectiveName;
    readonly wire: WireName;
    readonly bytes: number;
  }
  const [sums, ...others] = await runRanks<Steady[]>(size, { job: "steady" });
  for (const [i, { name, wire, bytes }] of sums!.entries()) {
    const each = [bytes, ...others.map((other) => other[i]!.bytes)];
    // Numbers that the compiler has not kept out of the heap yet; views and closures for every sum took 3600 and more.
    expect(Math.max(...each), `${name} in ${wire}: ${each}`).toBeLessThan(2500);
  }
});

test("megabytes in both directions between all pairs do not block", async () => {
  const results = await runRanks<boolean[]>(4, { job: "bulk", cipher: "none", maxPayload: 128 * 1024 });
  expect(results.flat()).toEqual(Array(4 * collectiveNames.length).fill(true));
});

test("broadcast reaches every rank, whatever the size", async () => {
  const results = await runRanks<boolean[]>(5, { job: "broadcasts" });
  expect(results.flat()).toEqual(Array(20).fill(true));
});

test.each([2, 5])("auto measures all pairs of %i ranks, chooses alike everywhere and counts", async (size) => {
  interface Auto {
    readonly measurements: LinkMeasurements;
    readonly sums: string[];
    readonly corrections: number[];
    readonly choices: Choice[];
    readonly statistics: LinkStatistics;
  }
  const [first, ...others] = await runRanks<Auto>(size, { job: "auto" });
  for (const other of others) expect({ ...other, statistics: null }).toEqual({ ...first!, statistics: null });
  const { measurements, choices, statistics } = first!;
  for (const table of [measurements.latencyMs, measurements.bytesPerMs]) {
    table.forEach((row, from) => {
      row.forEach((value, to) => {
        expect(value > 0).toBe(from !== to);
      });
    });
  }
  expect(choices.map(({ payloadBytes }) => payloadBytes)).toEqual([4, 16384, 400_000]);
  expect(choices[0]!.alternatives).toHaveLength(4);
  for (const correction of first!.corrections) expect(correction).toBeGreaterThan(0);
  expect(statistics.count).toBeGreaterThan(1 + size + 3);
  expect(statistics.bytesSent).toBeGreaterThan(400_000);
  expect(statistics.cipherMs).toBeGreaterThan(0);
});
