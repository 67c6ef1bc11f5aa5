import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type PassTiming, stepBounds, type WindowRule } from "#stellium/plan/passTiming";
import { simulate } from "#stellium/plan/simulation";
import { isSteady, isTightlySteady, uniformBlockMs } from "#stellium/plan/steadyState";
import { anyStep, uniformStep } from "./steps.ts";

/** Milliseconds per step that devices wait for their disks, in steps enough to drain any of the rings. */
function diskWaitMs(step: PassTiming, rule: WindowRule): number {
  const { devices } = simulate(step, { ...rule, skip: 0, steps: 300, filled: true });
  return Math.max(...devices.map((device) => device.diskWaitMs));
}

describe("the simulation", () => {
  it("reads behind computing and sums, into room that is free at once", () => {
    // TPI-LLM's window of two: reading overlaps the sum alone.
    const step = uniformStep(10, 16, 14, 30, 3);
    expect(simulate(step, { windowBlocks: 2 }).stepMs).toBeCloseTo(300);
    expect(simulate(step, { free: "late", windowBlocks: 2 }).stepMs).toBeCloseTo(460);
    expect(simulate(step, { free: "late", windowBlocks: 3 }).stepMs).toBeCloseTo(300);
  });

  it("tells what a device waited for", () => {
    const step = uniformStep(4, 5, 1, 20, 1);
    expect(simulate(step).devices).toEqual([{ computeMs: 20, diskMs: 80, diskWaitMs: 76, peerWaitMs: 0 }]);
  });

  it("lets the fast devices wait for the slow", () => {
    const [slow] = uniformStep(4, 9, 1, 1, 4).devices;
    const [fast] = uniformStep(4, 2, 1, 1, 4).devices;
    const { stepMs, devices } = simulate({ devices: [slow!, fast!], syncMs: [1, 1, 1, 1] });
    expect(stepMs).toBeCloseTo(40);
    expect(devices.map(({ peerWaitMs }) => Math.round(peerWaitMs))).toEqual([0, 28]);
  });

  it("refuses a ring that cannot hold what is needed to go on", () => {
    expect(() => simulate(uniformStep(4, 5, 1, 20, 0.9))).toThrow(RangeError);
    expect(() => simulate(uniformStep(4, 5, 1, 20, 1), { free: "late" })).toThrow(RangeError);
  });

  it("never undercuts computing, disk or network alone", () => {
    fc.assert(
      fc.property(anyStep, (step) => {
        const { stepMs } = simulate(step, { skip: 300, steps: 50 });
        expect(stepMs).toBeGreaterThanOrEqual(stepBounds(step).leastMs * (1 - 1e-9));
      }),
    );
  });

  it("is no slower for a larger ring, more pinned blocks, or rooms free at once", () => {
    fc.assert(
      fc.property(anyStep, fc.integer({ min: 0, max: 8 }), (step, which) => {
        const options = { skip: 0, steps: 40 };
        const { stepMs } = simulate(step, options);
        const changed = (change: (device: (typeof step.devices)[number]) => object) =>
          simulate({ ...step, devices: step.devices.map((device) => ({ ...device, ...change(device) })) }, options);
        expect(changed(({ ringBytes }) => ({ ringBytes: 2 * ringBytes })).stepMs).toBeLessThanOrEqual(stepMs + 1e-9);
        const pinned = changed(({ blocks }) => ({
          blocks: blocks.map((block, i) => (i === which ? { ...block, pinned: true } : block)),
        }));
        expect(pinned.stepMs).toBeLessThanOrEqual(stepMs + 1e-9);
        const roomy = { ...step, devices: step.devices.map((device) => ({ ...device, ringBytes: 60 })) };
        const late = simulate(roomy, { ...options, free: "late" }).stepMs;
        expect(simulate(roomy, options).stepMs).toBeLessThanOrEqual(late + 1e-9);
      }),
    );
  });
});

describe("the closed forms", () => {
  it("say whether devices of the simulation ever wait for their disks", () => {
    const rules: WindowRule[] = [{}, { windowBlocks: 1 }, { windowBlocks: 2 }];
    let steady = 0;
    fc.assert(
      fc.property(anyStep, fc.constantFrom(...rules), (step, rule) => {
        const foretold = isSteady(step, rule);
        expect(diskWaitMs(step, rule) < 1e-6).toBe(foretold);
        if (!foretold) return;
        steady++;
        const { computeMs, networkMs } = stepBounds(step);
        expect(simulate(step, { ...rule, filled: true }).stepMs).toBeCloseTo(computeMs + networkMs, 6);
      }),
      { numRuns: 200 },
    );
    expect(steady).toBeGreaterThan(10);
  });

  it("say so too where rooms are free late", () => {
    const rule = { free: "late", windowBlocks: 3 } as const;
    fc.assert(
      fc.property(anyStep, (given) => {
        const step = { ...given, devices: given.devices.map((device) => ({ ...device, ringBytes: 90 })) };
        expect(diskWaitMs(step, rule) < 1e-6).toBe(isSteady(step, rule));
      }),
    );
  });

  it("of the tight condition imply those of the loose one", () => {
    let tight = 0;
    fc.assert(
      fc.property(anyStep, (given) => {
        const step = { ...given, devices: given.devices.map((device) => ({ ...device, ringBytes: 60 })) };
        if (!isTightlySteady(step)) return;
        tight++;
        expect(isSteady(step)).toBe(true);
      }),
      { numRuns: 500 },
    );
    expect(tight).toBeGreaterThan(20);
  });

  it("give the time of a step whose ring holds all that is streamed", () => {
    fc.assert(
      fc.property(anyStep, (given) => {
        const step = { ...given, devices: given.devices.map((device) => ({ ...device, ringBytes: 600 })) };
        const { computeMs, diskMs, networkMs } = stepBounds(step);
        const expected = Math.max(computeMs + networkMs, diskMs);
        const { stepMs } = simulate(step, { skip: 500, steps: 100 });
        expect(Math.abs(stepMs / expected - 1)).toBeLessThan(0.01);
      }),
    );
  });

  it("give the time of blocks that are all alike", () => {
    const ms = fc.integer({ min: 1, max: 50 });
    const blocks = fc.integer({ min: 1, max: 8 });
    fc.assert(
      fc.property(ms, ms, ms, blocks, blocks, fc.boolean(), (computeMs, syncMs, loadMs, count, window, late) => {
        const windowBlocks = late ? window + 1 : window;
        const free = late ? "late" : "at-once";
        const step = uniformStep(count, computeMs, syncMs, loadMs, windowBlocks);
        const { stepMs } = simulate(step, { free, skip: 400, steps: 400 });
        const expected = uniformBlockMs({ computeMs, syncMs, loadMs, windowBlocks, free });
        expect(Math.abs(stepMs / count / expected - 1)).toBeLessThan(0.01);
      }),
    );
  });
});
