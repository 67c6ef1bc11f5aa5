import { expect, test } from "vitest";
import { readOptions } from "../../bench/single/options.mjs";
import { fastestDecile, median } from "../../bench/single/statistics.mjs";

test("medians and fastest deciles lie between values", () => {
  expect(median([4, 1, 3, 2])).toBe(2.5);
  expect(fastestDecile([10, 0, 30, 20, 40, 50, 60, 70, 80, 90, 100])).toBe(10);
  expect(median([])).toBeNaN();
});

test("the usual poll level is the one compared", () => {
  expect(readOptions(["--poll", "0,50,100"]).polls).toEqual([50, 0, 100]);
  expect(readOptions(["--poll", "100,0"]).polls).toEqual([100, 0]);
});

test("options have defaults and refuse what is no number", () => {
  expect(readOptions([])).toMatchObject({ threads: [1, 2], rounds: 3, steps: 64, prompt: 512, polls: [50] });
  expect(() => readOptions(["--rounds", "0"])).toThrow("whole number from 1");
  expect(() => readOptions(["--types", ","])).toThrow("empty");
});
