import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { PassTiming, WindowRule } from "#stellium/plan/passTiming";
import { simulate } from "#stellium/plan/simulation";
import { isSteady, isTightlySteady } from "#stellium/plan/steadyState";
import {
  type LayerTimes,
  looseSteadyCondition,
  peakParameters,
  steadyConditionWithRetention,
  tightSteadyCondition,
} from "#stellium/plan/tpiLlm";

/** Measured by the paper's authors on four laptops with Llama 2-7B and a window of four (section 3.3). */
const laptops = { attentionMs: 11, ffnMs: 17, allReduceMs: 14, attentionLoadMs: 18, ffnLoadMs: 30 };

const ms = fc.integer({ min: 1, max: 40 });
const anyTimes: fc.Arbitrary<LayerTimes> = fc.record({
  attentionMs: ms,
  ffnMs: ms,
  allReduceMs: ms,
  attentionLoadMs: ms,
  ffnLoadMs: ms,
});

/** Layers on one device, nothing between steps but a sum; every `retained`-th FFN block in memory. */
function stepOf(times: LayerTimes, layers: number, ringBlocks: number, retained = Infinity): PassTiming {
  const { attentionMs, ffnMs, allReduceMs, attentionLoadMs, ffnLoadMs } = times;
  const blocks = Array.from({ length: layers }, (_, layer) => [
    { bytes: attentionLoadMs, computeMs: attentionMs, pinned: false },
    { bytes: ffnLoadMs, computeMs: ffnMs, pinned: layer % retained === 0 && retained !== Infinity },
  ]).flat();
  const ringBytes = ringBlocks * Math.max(attentionLoadMs, ffnLoadMs);
  return { devices: [{ blocks, ringBytes, diskBytesPerMs: 1 }], syncMs: Array(2 * layers).fill(allReduceMs) };
}

describe("the paper's steady conditions", () => {
  it("hold for its own example: the loose one, and not the tight one", () => {
    expect(looseSteadyCondition(laptops, 32)).toBe(true);
    expect(tightSteadyCondition(laptops)).toBe(false);
  });

  it("the tight one implies the loose one", () => {
    fc.assert(
      fc.property(anyTimes, (times) => {
        fc.pre(tightSteadyCondition(times));
        expect(looseSteadyCondition(times, 20)).toBe(true);
      }),
    );
  });

  it("the loose one comes to its first inequality, and is ours for a ring that is never full", () => {
    fc.assert(
      fc.property(anyTimes, fc.integer({ min: 1, max: 6 }), (times, layers) => {
        const { attentionMs, ffnMs, allReduceMs, attentionLoadMs, ffnLoadMs } = times;
        const loose = looseSteadyCondition(times, layers);
        expect(loose).toBe(attentionMs + ffnMs + 2 * allReduceMs >= attentionLoadMs + ffnLoadMs);
        expect(isSteady(stepOf(times, layers, 2 * layers + 2))).toBe(loose);
      }),
    );
  });

  it("the tight one is ours without pinned blocks", () => {
    fc.assert(
      fc.property(anyTimes, fc.integer({ min: 1, max: 6 }), (times, layers) => {
        expect(isTightlySteady(stepOf(times, layers, 2))).toBe(tightSteadyCondition(times));
      }),
    );
  });

  it("with a retained block promise no more than ours", () => {
    const counts = fc.integer({ min: 1, max: 6 });
    fc.assert(
      fc.property(anyTimes, counts, counts, (times, rounds, every) => {
        const layers = rounds * every;
        fc.pre(steadyConditionWithRetention(times, layers, every));
        expect(isSteady(stepOf(times, layers, 2 * layers + 2, every))).toBe(true);
      }),
      { numRuns: 300 },
    );
  });
});

describe("the paper's peak memory", () => {
  const llama70b = { hiddenSize: 8192, vocabularySize: 32000, intermediateSize: 28672, headCount: 64, headCountKv: 8 };
  const at = (window: number) => peakParameters({ ...llama70b, share: 1 / 8, window });

  it("is the vocabulary's on the master, and a few blocks' on a worker", () => {
    expect(at(1).master).toBe(8192 * 32000 + 8192);
    expect(at(2).master).toBe(2 * 8192 * 32000 + 8192);
    const attention = 2 * 1.125 * 8192 ** 2 * 0.125 + 8192;
    const ffn = 3 * 8192 * 28672 * 0.125 + 8192;
    expect(at(1).worker).toBe(ffn);
    expect(at(2).worker).toBe(attention + ffn);
    expect(at(3)).toEqual({ master: 2 * 8192 * 32000 + 8192 + ffn, worker: attention + 2 * ffn });
    expect(at(4)).toEqual({ master: 2 * 8192 * 32000 + 8192 + ffn + attention, worker: 2 * attention + 2 * ffn });
  });
});

/** Llama 2-70B in F32 on a worker of eight, its memory read at 10 GB/s and its disk at 1.5 GB/s. docs/planning.md has it. */
describe("the paper's scheduler beside ours", () => {
  const attention = 4 * (2 * 1.125 * 8192 ** 2 * 0.125 + 8192);
  const ffn = 4 * (3 * 8192 * 28672 * 0.125 + 8192);
  const block = (bytes: number) => ({ bytes, computeMs: bytes / 10e6, pinned: false });
  const blocks = Array.from({ length: 80 }, () => [block(attention), block(ffn)]).flat();
  const seconds = (ringBytes: number, syncMs: number, rule: WindowRule) => {
    const step = { devices: [{ blocks, ringBytes, diskBytesPerMs: 1.5e6 }], syncMs: Array(160).fill(syncMs) };
    return simulate(step, rule).stepMs / 1000;
  };

  it("takes a window of two that is free late 26 s a token, where the disk takes 23 s", () => {
    const window = attention + ffn;
    expect(seconds(window, 14.2, { free: "late", windowBlocks: 2 })).toBeCloseTo(26.24, 2);
    expect(seconds(window, 14.2, { windowBlocks: 2 })).toBeCloseTo(22.8, 1);
    expect((80 * window) / 1.5e9).toBeCloseTo(22.8, 1);
  });
});
