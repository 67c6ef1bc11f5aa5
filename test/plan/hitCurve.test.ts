import { describe, expect, it } from "vitest";
import { HitCurve } from "#stellium/plan/hitCurve";

const units = 40;

/** Skewed accesses. */
function wanted(count: number): number[] {
  let state = 7;
  return Array.from({ length: count }, () => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    return Math.floor(units * (state / 2 ** 31) ** 3);
  });
}

/** Hit rate of a simulated LRU cache, without first accesses. */
function simulated(accesses: readonly number[], slots: number): number {
  const held = new Map<number, null>();
  const seen = new Set<number>();
  let [hits, total] = [0, 0];
  for (const unit of accesses) {
    if (seen.has(unit)) total++;
    if (held.delete(unit)) hits++;
    seen.add(unit);
    held.set(unit, null);
    if (held.size > slots) held.delete(held.keys().next().value!);
  }
  return hits / total;
}

describe("a hit curve", () => {
  it.each([1, 2, 5, 17, 39])("says of %i slots what a cache of as many finds", (slots) => {
    // Long enough for times to be counted from zero again, several times.
    const accesses = wanted(3000);
    const curve = new HitCurve(units);
    for (const unit of accesses) curve.take(unit);
    expect(curve.hitRate(slots)).toBeCloseTo(simulated(accesses, slots), 10);
  });

  it("finds nothing without slots, and all where each unit has one", () => {
    const curve = new HitCurve(units);
    for (const unit of wanted(500)) curve.take(unit);
    expect(curve.hitRate(0)).toBe(0);
    expect(curve.hitRate(units)).toBe(1);
  });

  it("takes nothing for missing that was wanted only once", () => {
    const curve = new HitCurve(units);
    for (let unit = 0; unit < units; unit++) curve.take(unit);
    expect(curve.hitRate(1)).toBe(1);
  });

  it("finds nothing where all are wanted in turns, and one slot is missing", () => {
    const curve = new HitCurve(units);
    for (let round = 0; round < 5; round++) for (let unit = 0; unit < units; unit++) curve.take(unit);
    expect(curve.hitRate(units - 1)).toBe(0);
  });
});
