import { describe, expect, it } from "vitest";
import { soloReducer } from "#stellium/engine/reducer";
import { profileFigures, profileMemory, readProfile, StepProfiler } from "#stellium/engine/stepProfile";

describe("the profile of a step", () => {
  /** Steps of two blocks and a head, which take the milliseconds given. */
  function profiled(blocks: number, sums: number) {
    const memory = profileMemory(blocks);
    const times = { computeMs: 100, diskMs: 0, wireMs: 50, cipherMs: 5, waitMs: 7 };
    const profiler = new StepProfiler(memory, (into) => Object.assign(into, times));
    const reducer = profiler.follow(soloReducer);
    profiler.begin();
    for (let i = 0; i < sums; i++) {
      times.computeMs += 4;
      times.wireMs += 3;
      times.cipherMs += 1;
      times.waitMs += 2;
      reducer.start(0, { values: new Float32Array(1), address: 0n, exact: false }, 0);
    }
    times.computeMs += 8;
    profiler.end();
    return readProfile(memory);
  }

  it("is empty before the first one", () => {
    expect(readProfile(profileMemory(3)).length).toBe(0);
  });

  it("has the times of every block, and of what comes behind the last sum", () => {
    expect([...profiled(3, 2)]).toEqual([4, 0, 2, 1, 2, 4, 0, 2, 1, 2, 8, 0, 0, 0, 0]);
  });

  it("adds up over steps, and counts waiting for another thread as time on the wire", () => {
    const memory = profileMemory(1);
    const profiler = new StepProfiler(memory, () => {});
    const late = () => {
      for (const end = performance.now() + 5; performance.now() < end; );
      return true;
    };
    const reducer = profiler.follow({ ...soloReducer, wait: late });
    for (let step = 0; step < 2; step++) {
      profiler.begin();
      reducer.wait(0);
      profiler.end();
    }
    const { stepWireMs, ...others } = profileFigures(memory);
    expect(stepWireMs).toBeGreaterThanOrEqual(9.9);
    expect(others).toEqual({ stepComputeMs: 0, stepDiskMs: 0, stepCipherMs: 0, stepWaitMs: 0 });
  });

  it("has no more than there is room for", () => {
    expect(profiled(2, 100).length).toBe(5 * 5);
  });
});
