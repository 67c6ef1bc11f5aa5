import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { halfLife, Retention, weightOfUse } from "#stellium/weights/pool/retention";

const units = 12;
const unit = fc.nat({ max: units - 1 });

/** Retention that looks at every use again whenever it is asked. */
class PlainRetention {
  readonly #uses: { unit: number; pass: number; count: number }[] = [];
  readonly offered = new Set<number>();
  #passes = 0;

  /** Passes that begin. */
  pass(passes: number): void {
    this.#passes += passes;
  }

  use(unit: number, count: number): void {
    this.#uses.push({ unit, pass: this.#passes, count });
  }

  countOf(unit: number): number {
    const own = this.#uses.filter((use) => use.unit === unit);
    return own.reduce((sum, { pass, count }) => sum + count * 2 ** ((pass - this.#passes) / halfLife), 0);
  }

  get least(): number {
    return Math.min(...[...this.offered].map((unit) => this.countOf(unit)));
  }
}

interface Pair {
  readonly real: Retention;
  readonly plain: PlainRetention;
}

/** Anything that a pool may do, as far as the state allows it. */
const action: fc.Arbitrary<(pair: Pair) => void> = fc.oneof(
  fc.integer({ min: 1, max: 40 }).map((passes) => ({ real, plain }: Pair) => {
    for (let i = 0; i < passes; i++) real.pass();
    plain.pass(passes);
  }),
  fc.tuple(unit, fc.constantFrom(1, 1, 0.25, 3, 46)).map(([used, count]) => ({ real, plain }: Pair) => {
    const offered = plain.offered.has(used);
    if (offered) real.withdraw(used);
    real.use(used, count);
    plain.use(used, count);
    if (offered) real.offer(used);
  }),
  unit.map((offered) => ({ real, plain }: Pair) => {
    if (plain.offered.has(offered)) return;
    real.offer(offered);
    plain.offered.add(offered);
  }),
  // Also those that are not offered.
  unit.map((withdrawn) => ({ real, plain }: Pair) => {
    real.withdraw(withdrawn);
    plain.offered.delete(withdrawn);
  }),
);

/** Fails unless `least` is an offered unit that counts as little as any. Which of equal ones it is does not matter. */
function expectLeast({ real, plain }: Pair): void {
  const { least } = real;
  expect(plain.offered.has(least)).toBe(plain.offered.size > 0);
  if (plain.offered.size === 0) expect(least).toBe(-1);
  else expect(plain.countOf(least)).toBeLessThanOrEqual(plain.least * (1 + 1e-9));
}

describe("retention", () => {
  it("names a unit that counts least, whatever was used, offered and withdrawn", () => {
    fc.assert(
      fc.property(fc.array(action, { maxLength: 80 }), (actions) => {
        const pair = { real: new Retention(units), plain: new PlainRetention() };
        for (const act of actions) {
          act(pair);
          expectLeast(pair);
        }
      }),
    );
  });

  it("names the offered units in order of their counts, without those that were withdrawn", () => {
    const count = 40;
    const all = [...Array(count).keys()];
    const counts = fc.array(fc.integer({ min: 1, max: 1000 }), { minLength: count, maxLength: count });
    const orders = fc.shuffledSubarray(all, { minLength: count });
    fc.assert(
      fc.property(counts, orders, fc.shuffledSubarray(all), (given, order, withdrawn) => {
        const retention = new Retention(count);
        retention.pass();
        for (const unit of order) {
          retention.use(unit, given[unit]!);
          retention.offer(unit);
        }
        for (const unit of withdrawn) retention.withdraw(unit);
        const left = all.filter((unit) => !withdrawn.includes(unit));
        const named = left.map(() => {
          const { least } = retention;
          retention.withdraw(least);
          return least;
        });
        expect(named.map((unit) => given[unit])).toEqual(left.map((unit) => given[unit]!).sort((a, b) => a - b));
        expect([...named].sort((a, b) => a - b)).toEqual(left);
        expect(retention.least).toBe(-1);
      }),
    );
  });

  it("lets one use outweigh two that are more than a half-life older", () => {
    const retention = new Retention(2);
    retention.use(0, 2);
    for (let pass = 0; pass <= halfLife; pass++) retention.pass();
    retention.use(1);
    retention.offer(0);
    retention.offer(1);
    expect(retention.least).toBe(0);
    expect(retention.exceeds(1, 0)).toBe(true);
  });

  it("still tells counts apart after a million passes", () => {
    const retention = new Retention(2);
    for (let pass = 0; pass < 1e6; pass++) retention.pass();
    retention.use(0);
    retention.use(0);
    retention.use(1);
    expect(retention.exceeds(0, 1)).toBe(true);
    retention.use(1, 1.01);
    expect(retention.exceeds(1, 0)).toBe(true);
  });
});

describe("the weight of a use", () => {
  it("is the number of tokens in short passes", () => {
    expect([weightOfUse(1, 1), weightOfUse(3, 8), weightOfUse(23, 23)]).toEqual([1, 3, 23]);
  });

  it("adds up, in a long pass whose tokens all choose a unit, to what a use in each of many passes does", () => {
    let steady = 0;
    for (let pass = 0; pass < 100 * halfLife; pass++) steady = steady * 2 ** (-1 / halfLife) + 1;
    const weight = weightOfUse(2000, 2000);
    // Half of the last pass's use is the difference between the sum and the integral.
    expect(Math.abs(weight - steady)).toBeLessThan(1);
    expect(weightOfUse(500, 2000)).toBeCloseTo(weight / 4, 10);
  });
});
