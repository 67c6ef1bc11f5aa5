import { describe, expect, it } from "vitest";
import { formatBytes, formatCount, parseSize } from "#stellium/cli/format";

describe("formatBytes", () => {
  it.each([
    [0, "0 B"],
    [999, "999 B"],
    [1000, "1 kB"],
    [1234, "1.23 kB"],
    [999_499, "999 kB"],
    [999_500, "1 MB"],
    [5_124_480, "5.12 MB"],
    [64_800_000, "64.8 MB"],
    [3_825_807_000, "3.83 GB"],
    [3_600_000_000, "3.6 GB"],
    [40e9, "40 GB"],
    [1e12, "1 TB"],
    [2.5e18, "2500 PB"],
  ])("%d is %s", (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text);
  });
});

describe("formatCount", () => {
  it.each([
    [0, "0"],
    [512, "512"],
    [4_815_360, "4.82 million"],
    [8_030_261_248, "8.03 billion"],
    [70_553_706_496, "70.6 billion"],
  ])("%d is %s", (count, text) => {
    expect(formatCount(count)).toBe(text);
  });
});

describe("parseSize", () => {
  it.each([
    ["3GB", 3e9],
    ["512MB", 512e6],
    ["1.5G", 1.5e9],
    ["700MiB", 700 * 2 ** 20],
    ["1Gi", 2 ** 30],
    [" 64 kb ", 64_000],
    ["4096", 4096],
    ["4096B", 4096],
    ["2tb", 2e12],
    ["0.1234567KB", 123],
  ])("%s is %d bytes", (text, bytes) => {
    expect(parseSize(text)).toBe(bytes);
  });

  const bad = [
    "",
    "GB",
    "-1GB",
    "+1GB",
    "0",
    "0GB",
    "0.0001K",
    "1,5GB",
    "3 G B",
    "3iB",
    "3XB",
    "1e9",
    "0x10",
    "Infinity",
  ];
  it.each([...bad, "NaN", "3GBB", ".5GB", "3.GB", "9999999PB", "3GB 2", "９GB"])("refuses %j", (text) => {
    expect(() => parseSize(text)).toThrow(
      expect.objectContaining({ code: "BAD_USAGE", message: expect.stringContaining(JSON.stringify(text)) }),
    );
  });

  it("reads what formatBytes writes", () => {
    for (const bytes of [1000, 12_300, 5_120_000, 3_830_000_000]) expect(parseSize(formatBytes(bytes))).toBe(bytes);
  });
});
