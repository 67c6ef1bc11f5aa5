import { describe, expect, it } from "vitest";
import { chooseThreads, threadsText, threadsWarning } from "#stellium/cluster/threads";

const large = 4e9;

describe("threads", () => {
  const threads = (cores: number, quota?: number, processes?: number) =>
    chooseThreads({ weightBytes: large, processes }, { cores, quota }).threads;

  it("are as many as cores, or as the CPU quota lets run at the same time, and one at least", () => {
    expect([threads(4), threads(4, 8), threads(4, 3), threads(2, 1), threads(2, 0.5), threads(2, 0.05)]).toEqual([
      4, 4, 3, 1, 1, 1,
    ]);
    expect([threads(4, 1.25), threads(4, 1.5), threads(4, 2.4), threads(4, 2.75)]).toEqual([1, 2, 2, 3]);
  });

  it("are divided among processes", () => {
    expect([threads(8, undefined, 4), threads(8, 4, 4), threads(8, 4, 3), threads(2, 1, 4)]).toEqual([2, 1, 1, 1]);
  });

  it("are one for a small model, and as many as were asked for", () => {
    const allowance = { cores: 8, quota: undefined };
    expect(chooseThreads({ weightBytes: 5e6 }, allowance)).toMatchObject({ threads: 1, from: "small" });
    expect(chooseThreads({ asked: 6, weightBytes: 5e6 }, allowance)).toMatchObject({ threads: 6, from: "asked" });
  });

  it("say why", () => {
    const text = (cores: number, quota?: number, rest = {}) =>
      threadsText(chooseThreads({ weightBytes: large, ...rest }, { cores, quota }));
    expect(text(2, 1)).toBe("1 (CPU quota 1.0 of 2 cores)");
    expect(text(2, 0.05)).toBe("1 (CPU quota 0.05 of 2 cores)");
    expect(text(2, 2)).toBe("2 (2 cores)");
    expect(text(1)).toBe("1 (1 core)");
    expect(text(8, 4, { processes: 2 })).toBe("2 (CPU quota 4.0 of 8 cores, 2 processes)");
    expect(text(8, 4, { asked: 3 })).toBe("3 (--threads)");
    expect(text(8, 4, { weightBytes: 1e6 })).toBe("1 (a small model)");
  });

  it("are warned about if more were asked for than the quota lets run", () => {
    const warning = (asked: number | undefined, quota?: number, processes = 1) =>
      threadsWarning(chooseThreads({ asked, weightBytes: large, processes }, { cores: 4, quota }));
    expect(warning(2, 1)).toBe("--threads 2 is more than the CPU quota of 1.0 cores; --threads 1 is faster");
    expect(warning(2, 2, 2)).toMatch(/^--threads 2 in each of 2 processes is more than .* 2\.0 cores; --threads 1 is/);
    for (const [asked, quota] of [
      [undefined, 1],
      [1, 1],
      [1, 0.5],
      [2, 1.5],
      [4, undefined],
      [8, 4],
    ] as const) {
      expect(warning(asked, quota)).toBeUndefined();
    }
  });
});
