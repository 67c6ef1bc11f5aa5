import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { planWindow } from "#stellium/plan/window";

const blocks = fc.array(fc.integer({ min: 0, max: 100 }), { minLength: 1, maxLength: 60 });

describe("a window's plan", () => {
  it("pins all that fits, and streams nothing then", () => {
    const plan = planWindow({ blockBytes: [10, 20, 0, 30], budgetBytes: 60 });
    expect(plan).toEqual({
      pinned: [true, true, true, true],
      pinnedBytes: 60,
      windowBytes: 0,
      streamedBytes: 0,
      leastBytes: 30,
      fits: true,
    });
  });

  it("stays within the budget, and needs no more than the least", () => {
    fc.assert(
      fc.property(blocks, fc.double({ min: 0, max: 1.2, noNaN: true }), (blockBytes, fraction) => {
        const total = blockBytes.reduce((sum, bytes) => sum + bytes, 0);
        const budgetBytes = Math.floor(total * fraction);
        const plan = planWindow({ blockBytes, budgetBytes });
        expect(plan.fits).toBe(budgetBytes >= plan.leastBytes);
        expect(plan.pinnedBytes + plan.windowBytes).toBeLessThanOrEqual(Math.max(budgetBytes, plan.leastBytes));
        expect(plan.pinnedBytes + plan.streamedBytes).toBe(total);
        const streamed = blockBytes.filter((_, i) => !plan.pinned[i]);
        expect(plan.windowBytes).toBeGreaterThanOrEqual(Math.max(0, ...streamed));
        expect(plan.streamedBytes).toBe(streamed.reduce((sum, bytes) => sum + bytes, 0));
        expect(plan.windowBytes === 0).toBe(plan.streamedBytes === 0);
      }),
    );
  });

  it("holds as many blocks in the window as it is told to, or refuses", () => {
    const blockBytes = Array.from({ length: 12 }, (_, i) => (i % 2 === 0 ? 40 : 80));
    const plan = planWindow({ blockBytes, budgetBytes: 300, windowBlocks: 2 });
    expect([plan.windowBytes, plan.pinnedBytes, plan.leastBytes]).toEqual([160, 120, 120]);
    expect(planWindow({ blockBytes, budgetBytes: 100, windowBlocks: 2 })).toMatchObject({
      fits: false,
      leastBytes: 120,
    });
  });

  it("leaves about as much to be read everywhere", () => {
    const blockBytes = Array.from({ length: 64 }, (_, i) => (i % 2 === 0 ? 40 : 80));
    for (const budgetBytes of [600, 1000, 2000, 3000, 3600]) {
      const { pinned, pinnedBytes, windowBytes } = planWindow({ blockBytes, budgetBytes });
      expect(pinnedBytes + windowBytes).toBeGreaterThan(budgetBytes - 80);
      const halves = [0, 16, 32, 48].map((start) =>
        blockBytes.slice(start, start + 16).reduce((sum, bytes, i) => sum + (pinned[start + i] ? 0 : bytes), 0),
      );
      expect(Math.max(...halves) - Math.min(...halves)).toBeLessThanOrEqual(160);
    }
  });
});
