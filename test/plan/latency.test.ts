import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { ModelDescription } from "#stellium/model/describeModel";
import { describe as describeModelFile } from "#stellium/model/support";
import { planDeviceMemory } from "#stellium/plan/deviceMemory";
import { limitOf, type PlannedCluster, predictPrompt, predictStep } from "#stellium/plan/latency";
import { rankDescription } from "#stellium/plan/rankDescription";
import { planShares } from "#stellium/plan/shares";
import { readGguf } from "#stellium/weights/gguf/reader";
import { writeHeader } from "../../bench/generateModel.mjs";
import { describeShape } from "./description.ts";

const model = describeShape({
  ...{ layers: 8, kvHeads: 8, group: 1, headLength: 64, embedding: 512, ffn: 1536, vocabulary: 4096 },
  types: ["Q4_0"],
});

const demand = { context: 512, batch: 128, kvType: "f16", outputs: 1, kvBytes: 1e6, linkBytes: 0 } as const;

/** Devices that are alike; `spare` is what each has for weights. */
function cluster(size: number, spare?: number, shared = model as ModelDescription): PlannedCluster {
  const plan = planShares(shared, Array(size).fill(1));
  const devices = plan.ranks.map((_, rank) => {
    const description = rankDescription(shared, plan, rank);
    const fixed = planDeviceMemory(description, demand);
    const capBytes = spare === undefined ? undefined : fixed.totalBytes - fixed.weightBytes + spare;
    const memory = planDeviceMemory(description, { ...demand, capBytes });
    return { memory, rates: { computeBytesPerSecond: 1e9, diskBytesPerSecond: 1e8 } };
  });
  const link = { latencyMs: 1, bytesPerSecond: 1e6 };
  return { devices, embeddingLength: 512, inputValues: 512, link, wire: "f16", collective: "auto", promptSpeedup: 7 };
}

describe("a device's memory", () => {
  const description = rankDescription(model, planShares(model, [1]), 0);
  const whole = planDeviceMemory(description, demand);

  it("holds all weights where there is no cap, and exactly the plan's items", () => {
    const { window, kvBytes, computeBytes, runtimeBytes, totalBytes, fits, weightBytes } = whole;
    expect(window).toMatchObject({ windowBytes: 0, streamedBytes: 0, pinnedBytes: weightBytes });
    expect(totalBytes).toBe(weightBytes + kvBytes + computeBytes + runtimeBytes);
    expect(fits).toBe(true);
  });

  it("never passes a cap that fits, and wastes less than a block of it", () => {
    const largest = Math.max(...whole.blockBytes);
    for (let capBytes = whole.leastCapBytes; capBytes < whole.totalBytes; capBytes += 300_000) {
      const { totalBytes, fits, window } = planDeviceMemory(description, { ...demand, capBytes });
      expect(fits).toBe(true);
      expect(totalBytes).toBeLessThanOrEqual(capBytes);
      if (capBytes > whole.leastCapBytes + 3 * largest) expect(capBytes - totalBytes).toBeLessThan(largest);
      expect(window.pinnedBytes + window.streamedBytes).toBe(whole.weightBytes);
    }
  });

  it("leaves room for what the process does besides", () => {
    const capBytes = whole.totalBytes - 1_000_000;
    const serving = planDeviceMemory(description, { ...demand, capBytes: capBytes + 5e6, hostBytes: 5e6 });
    expect(serving.window).toEqual(planDeviceMemory(description, { ...demand, capBytes }).window);
    expect(serving.totalBytes).toBeLessThanOrEqual(capBytes + 5e6);
  });

  it("names the least cap that would do", () => {
    const plan = (capBytes: number) => planDeviceMemory(description, { ...demand, capBytes });
    expect(plan(whole.leastCapBytes).fits).toBe(true);
    const refused = plan(whole.leastCapBytes - 1);
    expect(refused).toMatchObject({ fits: false, leastCapBytes: whole.leastCapBytes });
    expect(refused.totalBytes).toBeGreaterThan(whole.leastCapBytes - 1);
  });
});

async function mixture(): Promise<ModelDescription> {
  const folder = mkdtempSync(join(tmpdir(), "stellium-test-"));
  try {
    const path = join(folder, "mixture.gguf");
    await writeHeader({ shape: "tiny-qwen3moe", type: "Q8_0", path });
    return describeModelFile(await readGguf(path));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

describe("a predicted token", () => {
  it("is computing of what it gets of the experts, in every layer", async () => {
    const one = cluster(1, undefined, await mixture());
    const { blockBytes, experts } = one.devices[0]!.memory;
    const sum = (bytes: readonly number[]) => bytes.reduce((a, b) => a + b, 0);
    const read = sum(blockBytes) + experts.usedPart * sum(experts.blockBytes);
    expect(predictStep(one, 1).stepMs).toBeCloseTo(read / 1e6, 6);
  });

  it("hides most of the shorter one of computing and reading experts", async () => {
    const description = await mixture();
    const [whole] = cluster(1, undefined, description).devices;
    const computeMs = predictStep(cluster(1, undefined, description), 1).stepMs;
    const { experts } = whole!.memory;
    const some = cluster(1, undefined, description);
    const memory = { ...whole!.memory, experts: { ...experts, slots: Math.floor(0.9 * experts.count) } };
    for (const diskBytesPerSecond of [1e6, 1e9]) {
      const rates = { computeBytesPerSecond: 1e9, diskBytesPerSecond };
      const { stepMs, expertMs } = predictStep({ ...some, devices: [{ memory, rates }] }, 1);
      expect(expertMs).toBeGreaterThan(0);
      expect(stepMs).toBeCloseTo(Math.max(computeMs, expertMs) + 0.3 * Math.min(computeMs, expertMs), 9);
    }
  });

  it("is computing alone where everything stays in memory of one device", () => {
    const one = cluster(1);
    const { stepMs, limit, network, diskMs, steady } = predictStep(one, 1);
    expect(stepMs).toBeCloseTo(one.devices[0]!.memory.weightBytes / 1e6, 6);
    expect({ limit, diskMs, steady }).toEqual({ limit: "compute", diskMs: 0, steady: true });
    expect(network).toEqual({ collective: "solo", payloadBytes: 0, allReduceMs: 0, broadcastMs: 0 });
  });

  it("is the disk's where its bytes take longer", () => {
    const one = cluster(1, 8e6);
    const { streamedBytes } = one.devices[0]!.memory.window;
    const { stepMs, limit, steady } = predictStep(one, 1);
    expect(stepMs / (streamedBytes / 1e5)).toBeGreaterThanOrEqual(1 - 1e-9);
    expect(stepMs / (streamedBytes / 1e5)).toBeLessThan(1.02);
    expect({ limit, steady }).toEqual({ limit: "disk", steady: false });
  });

  it("adds sums of the wire's size between devices, by the collective that is best or named", () => {
    const two = cluster(2);
    const { network, networkMs, computeMs, stepMs, limit } = predictStep(two, 1);
    expect(network).toMatchObject({ collective: "exchange", payloadBytes: 1024 });
    expect(network.allReduceMs).toBeCloseTo(1 + 1.024);
    expect(network.broadcastMs).toBeCloseTo(1 + 2.048);
    expect(networkMs).toBeCloseTo(16 * 2.024 + 3.048);
    expect(stepMs).toBeCloseTo(computeMs + networkMs);
    expect(limit).toBe("network");
    const star = predictStep({ ...two, collective: "star", wire: "q8_0" }, 1).network;
    expect(star).toMatchObject({ collective: "star", payloadBytes: 544 });
    expect(star.allReduceMs).toBeCloseTo(2 * (1 + 0.544));
  });

  it("gets shorter with memory, and never below its parts", () => {
    const times = [2e6, 6e6, 12e6, 18e6, 30e6].map((spare) => predictStep(cluster(2, spare), 1));
    for (const { stepMs, leastMs } of times) expect(stepMs).toBeGreaterThanOrEqual(leastMs - 1e-9);
    const steps = times.map(({ stepMs }) => stepMs);
    expect(steps).toEqual([...steps].sort((a, b) => b - a));
  });
});

it("a prompt is computed faster, in as few equal steps as the batch allows, and reads the weights once in each", () => {
  const one = cluster(1, 8e6);
  const { steps, step, totalMs } = predictPrompt(one, 300, 128);
  expect({ steps, tokens: step.tokens }).toEqual({ steps: 3, tokens: 100 });
  expect(totalMs).toBeCloseTo(3 * step.stepMs);
  expect(step.diskMs).toBeCloseTo(predictStep(one, 1).diskMs);
  const { blockBytes } = one.devices[0]!.memory;
  const total = (blocks: readonly number[]) => blocks.reduce((sum, bytes) => sum + bytes, 0);
  // The last feed-forward part and the head get the tokens with outputs only.
  const [ofTokens, ofOutputs] = [total(blockBytes.slice(0, -2)), total(blockBytes.slice(-2))];
  expect(step.computeMs).toBeCloseTo((ofTokens * (100 / 7) + ofOutputs) / 1e6);
});

it("says what a step's time comes from", () => {
  const bounds = (computeMs: number, diskMs: number, networkMs: number) => ({
    computeMs,
    diskMs,
    networkMs,
    leastMs: 0,
  });
  expect(limitOf(bounds(5, 9, 3), 9)).toBe("disk");
  expect(limitOf(bounds(5, 8, 3), 9)).toBe("window");
  expect(limitOf(bounds(5, 8, 3), 8)).toBe("compute");
  expect(limitOf(bounds(3, 8, 5), 8)).toBe("network");
});
