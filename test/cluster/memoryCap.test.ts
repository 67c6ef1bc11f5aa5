import { describe, expect, it } from "vitest";
import { capSource, memoryCap } from "#stellium/cluster/memoryCap";

const machine = { limit: undefined, available: 20e9, grouped: false, own: 50e6 };
const group = (limit: number, used = 0) => ({ limit, available: limit - used, grouped: true, own: 40e6 });

describe("the cap", () => {
  it("is what was asked for, within the group's limit, which all processes share", () => {
    expect(memoryCap(3e9, 1, machine)).toEqual({ bytes: 3e9, from: "asked" });
    expect(memoryCap(3e9, 1, group(8e9))).toEqual({ bytes: 3e9, from: "asked" });
    expect(memoryCap(3e9, 1, group(2e9))).toEqual({ bytes: 2e9, from: "cgroup" });
    expect(memoryCap(3e9, 4, group(8e9))).toEqual({ bytes: 2e9, from: "cgroup" });
    // A limit is rounded down to whole pages.
    expect(memoryCap(250e6, 1, group(Math.floor(250e6 / 65_536) * 65_536)).from).toBe("asked");
  });

  it("is what is free and its own, less a tenth or 1 GB", () => {
    expect(memoryCap(undefined, 1, machine)).toEqual({ bytes: 20.05e9 - 1e9, from: "free" });
    expect(memoryCap(undefined, 4, machine).bytes).toBe(Math.floor((20.05e9 - 1e9) / 4));
    expect(memoryCap(undefined, 1, group(1e9, 100e6))).toEqual({ bytes: 0.9 * 940e6, from: "groupFree" });
  });

  it.each([150e6, 200e6, 700e6, 1e9])(
    "is below the limit of a group of %d bytes, whatever is charged to it",
    (limit) => {
      for (const used of [0, 20e6, 40e6, 100e6]) {
        expect(memoryCap(undefined, 1, group(limit, used)).bytes).toBeLessThanOrEqual(limit * 0.9);
      }
    },
  );

  it("says what decides it", () => {
    expect(capSource(memoryCap(undefined, 1, group(1e9)))).toBe("free in the control group, less a margin");
    expect(capSource(memoryCap(2e9, 1, group(1e9)))).toBe("the control group's limit");
  });
});
