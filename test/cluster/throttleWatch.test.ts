import { describe, expect, it } from "vitest";
import { chooseThreads } from "#stellium/cluster/threads";
import { ThrottleWatch } from "#stellium/cluster/throttleWatch";

/** A watch of a group whose counts are set by hand. */
function watching(asked: number | undefined, quota: number, cores = 2) {
  let counts = [{ periods: 1000, throttled: 900 }];
  const warnings: string[] = [];
  const choice = chooseThreads({ asked, weightBytes: 1e9 }, { cores, quota });
  const watch = new ThrottleWatch(
    choice,
    () => counts,
    (message) => warnings.push(message),
  );
  const pass = (periods: number, throttled: number) => {
    counts = [{ periods: counts[0]!.periods + periods, throttled: counts[0]!.throttled + throttled }];
    watch.check();
    return warnings.length;
  };
  return { watch, warnings, pass };
}

describe("watching a CPU quota", () => {
  it("warns with numbers, once, and again only when it has become much worse", () => {
    const { watch, warnings, pass } = watching(2, 1);
    expect(pass(100, 10)).toBe(0);
    expect(pass(100, 45)).toBe(1);
    expect(warnings[0]).toBe(
      "throttled in 45 % of periods: the CPU quota is 1.0 cores, and 2 threads compute; " +
        "fewer threads or a larger quota help",
    );
    expect([pass(100, 45), pass(100, 60), pass(100, 90), pass(100, 100)]).toEqual([1, 1, 2, 2]);
    watch[Symbol.dispose]();
    expect(warnings).toHaveLength(2);
  });

  it("waits until enough periods have passed, and looks once more in the end", () => {
    const { watch, warnings, pass } = watching(undefined, 0.5);
    expect([pass(10, 10), pass(5, 5)]).toEqual([0, 0]);
    expect(pass(10, 10)).toBe(1);
    expect(warnings[0]).toMatch(/100 % .* 0\.5 cores, and 1 thread computes; a larger quota helps$/);
    watch[Symbol.dispose]();
  });

  it("takes a rounded number of threads for what it is", () => {
    const { watch, pass } = watching(undefined, 1.5);
    expect([pass(100, 60), pass(100, 85), pass(100, 95)]).toEqual([0, 0, 1]);
    watch[Symbol.dispose]();
  });

  it("has nothing to say without a quota", () => {
    const warnings: string[] = [];
    const choice = chooseThreads({ weightBytes: 1e9 }, { cores: 2, quota: undefined });
    using watch = new ThrottleWatch(
      choice,
      () => [],
      (message) => warnings.push(message),
    );
    watch.check();
    expect(warnings).toEqual([]);
  });
});
