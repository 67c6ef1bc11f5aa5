import { expect, test } from "vitest";
import { measureCell } from "../../bench/collectives/cell.mjs";
import { readOptions } from "../../bench/collectives/options.mjs";
import { bestOf } from "../../bench/collectives/report.mjs";
import { lanUnavailable } from "../../bench/lan/lan.mjs";
import { skipIf } from "../skip.ts";

const reason = lanUnavailable();

test("options have defaults, a quick set, and refuse what is no number or name", () => {
  expect(readOptions([])).toMatchObject({ ranks: [2, 4, 8], latencies: [0.1, 1, 3, 10], mbits: [100, 300, 1000] });
  expect(readOptions(["--quick", "--ranks", "3"])).toMatchObject({ ranks: [3], latencies: [1], payloads: [4, 16384] });
  expect(() => readOptions(["--ranks", "1"])).toThrow("from 2 to 64");
  expect(() => readOptions(["--payload", ","])).toThrow("empty");
  expect(() => readOptions(["--wire", "f64"])).toThrow("none of f32");
});

test("one cell is measured over an emulated LAN", skipIf(reason !== undefined, `${reason}`), async () => {
  const options = readOptions(["--quick", "--cipher", "aes-256-gcm"]);
  const rows = await measureCell({ ranks: 2, latencyMs: 2, mbit: 300 }, options, new AbortController().signal);
  expect(rows.map(({ bytes }) => bytes)).toEqual([4, 16384]);
  for (const row of rows) {
    const { measured, nominal, repeats } = row;
    expect(repeats).toBeGreaterThan(0);
    expect(measured["exchange"]).toBeGreaterThan(1.9);
    expect(measured["star"]).toBeGreaterThan(3.9);
    expect(nominal["exchange"]).toBeCloseTo(2, 0);
    expect(bestOf(row).autoRatio).toBeGreaterThan(0);
  }
});
