import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { plannedKvBytes, planShared } from "#stellium/cluster/engineOptions";
import { planMemory } from "#stellium/plan/memory";
import { engineDefaults, startEngine } from "../engine/oracle.ts";

const demo = fileURLToPath(new URL("../../models/stellium-shakespeare-5m-q8_0.gguf", import.meta.url));

describe("the memory of several sequences", () => {
  it("is planned at no less than steps of them take", async () => {
    const options = { ...engineDefaults, slots: 4, outputs: 4, batch: 256 };
    await using engine = await startEngine(demo, options);
    const parts = (count: number, slot: number) => {
      return { slot, tokens: Array.from({ length: count }, (_, i) => (i * 7) % 1000), position: 0, outputs: 1 };
    };
    await engine.step([parts(100, 0), parts(100, 2), parts(1, 1), { ...parts(55, 3), outputs: 55, hidden: true }]);
    expect(engine.computeBytes).toBeGreaterThan(1e6);
    expect(planMemory(engine.description, options, 0).compute).toBeGreaterThan(engine.computeBytes);
  });

  it("counts the KV cache of every slot, and copies within their budget", async () => {
    await using engine = await startEngine(demo);
    const bytes = (parallel: number, prefixBytes: number) =>
      plannedKvBytes(engine.description, planShared(engine.description, { context: 512, parallel, prefixBytes }));
    expect(bytes(8, 0)).toBe(8 * bytes(1, 0));
    expect(bytes(1, 10e6) - bytes(1, 0)).toBeLessThanOrEqual(10e6);
    expect(bytes(1, 10e6) - bytes(1, 0)).toBeGreaterThan(9.9e6);
    expect(() => bytes(0, 0)).toThrow(/1 to 256 sequences/);
    expect(() => bytes(257, 0)).toThrow(/1 to 256 sequences/);
    expect(planShared(engine.description, { batch: 2, parallel: 8 }).batch).toBe(8);
  });
});
