import { describe, expect, it } from "vitest";
import { planBatch } from "#stellium/plan/batch";
import { planDeviceMemory } from "#stellium/plan/deviceMemory";
import { rankDescription } from "#stellium/plan/rankDescription";
import { planShares } from "#stellium/plan/shares";
import { describeShape } from "./description.ts";

const whole = describeShape({
  ...{ layers: 22, kvHeads: 4, group: 8, headLength: 64, embedding: 2048, ffn: 5632, vocabulary: 32_000 },
  types: ["Q4_0"],
});
const description = rankDescription(whole, planShares(whole, [1]), 0);

function planned(capBytes: number, batch: number, context = 4096) {
  const demand = { context, kvType: "f16", outputs: 1, kvBytes: 90e6, linkBytes: 0, capBytes } as const;
  return planDeviceMemory(description, { ...demand, batch });
}

function batchUnder(capBytes: number, context = 4096): number {
  return planBatch(context, 512, (batch) => planned(capBytes, batch, context));
}

describe("the batch under a cap", () => {
  it("is the usual one where all weights are in memory", () => {
    expect(batchUnder(4e9)).toBe(512);
    expect(batchUnder(4e9, 100)).toBe(100);
  });

  it("takes a tenth of the cap where weights are streamed", () => {
    for (const cap of [700e6, 500e6, 400e6]) {
      const batch = batchUnder(cap);
      expect(planned(cap, batch).computeBytes).toBeLessThanOrEqual(cap / 10);
      expect(planned(cap, 2 * batch).computeBytes).toBeGreaterThan(cap / 10);
      expect(planned(cap, batch).fits).toBe(true);
    }
  });

  it("is never more than the context, and the least where nothing fits", () => {
    expect(batchUnder(400e6, 20)).toBe(20);
    expect(batchUnder(10e6)).toBe(32);
  });
});

describe("a device's memory", () => {
  it("adds up to no more than the cap, whose least does", () => {
    for (const cap of [1e9, 600e6, 400e6]) {
      const memory = planned(cap, 128);
      const { runtimeBytes, kvBytes, computeBytes, linkBytes, window, totalBytes } = memory;
      const sum = runtimeBytes + kvBytes + computeBytes + linkBytes + window.pinnedBytes + window.windowBytes;
      expect(sum).toBe(totalBytes);
      expect(totalBytes).toBeLessThanOrEqual(cap);
      expect(planned(memory.leastCapBytes, 128).fits).toBe(true);
      expect(planned(memory.leastCapBytes - 1e6, 128).fits).toBe(false);
    }
  });
});
