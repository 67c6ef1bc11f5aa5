import { describe, expect, test } from "vitest";
import { openAdder, plainAdder } from "#stellium/collective/sum";
import { openWire, wireNames } from "#stellium/collective/wire";

const counts = [0, 1, 31, 32, 33, 1000, 8191, 8192, 20_001];
const wave = (count: number, scale = 1) => Float32Array.from({ length: count }, (_, i) => Math.sin(i * 1.7) * scale);

describe.each(wireNames)("%s", (name) => {
  const wire = openWire(name);
  const through = (values: Float32Array) => {
    const bytes = new Uint8Array(wire.bytes(values.length));
    const decoded = new Float32Array(values.length);
    wire.encoding(values, bytes)();
    wire.decoding(bytes, decoded)();
    return { bytes, decoded };
  };

  test.each(counts)("carries %i values and adds them in f32", (count) => {
    const values = wave(count, 10);
    const { bytes, decoded } = through(values);
    const worst = { f32: 0, f16: 10 * 2 ** -11, q8_0: 10 / 220 }[name];
    expect(values.every((value, i) => Math.abs(value - decoded[i]!) <= worst)).toBe(true);
    const sums = wave(count, 3);
    wire.accumulating(bytes, sums)();
    expect(sums).toEqual(wave(count, 3).map((value, i) => Math.fround(value + decoded[i]!)));
  });

  test("saturates what is too large, and counts it", () => {
    const limit = { f32: Number.POSITIVE_INFINITY, f16: 65504, q8_0: 65504 * 127 }[name];
    const values = wave(70);
    values.set([3e38, -3e38, 65504, -65519], 33);
    const before = wire.saturated;
    const { decoded } = through(values);
    expect(decoded[33]! / Math.min(limit, 3e38)).toBeCloseTo(1);
    expect(decoded[34]! / Math.min(limit, 3e38)).toBeCloseTo(-1);
    expect(decoded.every(Number.isFinite)).toBe(true);
    expect(wire.saturated - before).toBe({ f32: 0, f16: 3, q8_0: 2 }[name]);
    expect(Math.abs(decoded[10]! - values[10]!)).toBeLessThan(0.01);
  });

  test.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])("does not hide %d", (wrong) => {
    for (const at of [0, 31, 40, 69]) {
      const values = wave(70);
      values[at] = wrong;
      const { decoded } = through(values);
      expect(Number.isFinite(decoded[at])).toBe(false);
      expect(decoded.filter(Number.isFinite).length).toBeGreaterThanOrEqual(70 - 32);
    }
  });
});

test("SIMD and plain sums have the same bits", () => {
  for (const count of counts.filter((count) => count <= 8192)) {
    const results = [openAdder(), plainAdder()].map((adder) => {
      const sums = wave(count, 1e-3);
      adder.summand.set(wave(count, 7));
      adder.addingTo(sums)();
      return sums;
    });
    expect(results[0]).toEqual(results[1]);
  }
});
