import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { dividedTokens, divideTokens, tokensOfLane } from "#stellium/engine/division";

const counts = fc.integer({ min: 1, max: 5000 });
const groups = fc.integer({ min: 1, max: 8 });

describe("the division of a step", () => {
  it("has all tokens, in order, in parts that differ by one at most", () => {
    fc.assert(
      fc.property(counts, groups, (tokens, parts) => {
        const ranges = divideTokens(tokens, parts);
        let next = 0;
        for (const { first, count } of ranges) {
          expect(first).toBe(next);
          next += count;
        }
        expect(next).toBe(tokens);
        const sizes = ranges.map(({ count }) => count);
        expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
      }),
    );
  });

  it("fits into the lanes, whether a step is divided or too small for it", () => {
    fc.assert(
      fc.property(counts, groups, fc.nat(), (batch, lanes, part) => {
        const tokens = 1 + (part % batch);
        const room = tokensOfLane(batch, lanes);
        const largest = tokens < dividedTokens ? tokens : Math.max(...divideTokens(tokens, lanes).map((r) => r.count));
        expect(largest).toBeLessThanOrEqual(room);
        expect(room).toBeLessThanOrEqual(batch);
      }),
    );
  });
});
