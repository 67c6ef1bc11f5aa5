import { describe, expect, it } from "vitest";
import { groupMemory, memoryAllowance } from "#stellium/system/memoryAllowance";
import {
  docker,
  firstMemory,
  firstStat,
  hybrid,
  lxc,
  machine,
  namespaced,
  type Recording,
  reading,
  second,
  secondStat,
  separate,
  service,
  within,
} from "./recordings.ts";

const of = (...recordings: Recording[]) => groupMemory(reading(...recordings));
/** Of the recorded `memory.stat`: what is in files, less what is not on the disk yet. */
const reclaimable = 619_995_136 - 1_048_576;

describe("a group's memory", () => {
  it("of version 1 has the page cache available", () => {
    const memory = "/sys/fs/cgroup/memory";
    const files = within(memory, firstMemory(1e9, 625e6));
    const expected = { limit: 1e9, available: 1e9 - (625e6 - reclaimable) };
    expect(of(docker, files)).toEqual(expected);
    expect(of(hybrid, within(`${memory}/user.slice`, firstMemory(1e9, 625e6)))).toEqual(expected);
    expect(of(lxc, within(`${memory}/init.scope`, firstMemory(undefined, 625e6)), files)).toEqual(expected);
  });

  it("of version 2 has page cache and reclaimable kernel memory available", () => {
    const files = { "memory.max": "1000000000\n", "memory.current": "640000000\n", "memory.stat": secondStat };
    const available = 1e9 - (640e6 - reclaimable - 2_097_152);
    expect(of(namespaced, within("/sys/fs/cgroup", second(files)))).toEqual({ limit: 1e9, available });
    const high = { ...files, "memory.high": "900000000\n" };
    expect(of(namespaced, within("/sys/fs/cgroup", second(high)))).toEqual({ limit: 9e8, available: available - 1e8 });
    const unbounded = { ...files, "memory.max": "max\n", "memory.high": "max\n" };
    expect(of(namespaced, within("/sys/fs/cgroup", second(unbounded)))).toEqual({});
  });

  it("is bounded by every parent: by the smallest limit, and by what others use there", () => {
    const root = "/sys/fs/cgroup";
    const group = (max: string, current: number) =>
      second({ "memory.max": max, "memory.current": `${current}\n`, "memory.stat": "anon 1\n" });
    const own = within(`${root}/system.slice/stellium-serve.service`, group("2000000000\n", 1e8));
    expect(of(service, own)).toEqual({ limit: 2e9, available: 1.9e9 });
    expect(of(service, own, within(`${root}/system.slice`, group("3000000000\n", 2.5e9)))).toEqual({
      limit: 2e9,
      available: 5e8,
    });
    expect(of(service, own, within(`${root}/system.slice`, group("1500000000\n", 1e8)))).toEqual({
      limit: 1.5e9,
      available: 1.4e9,
    });
  });

  it("of version 1 is bounded by parents that a container cannot see, but not by those that count apart", () => {
    const stat = firstStat.replace("9223372036854771712", "500000000");
    expect(of(docker, within("/sys/fs/cgroup/memory", firstMemory(undefined, 625e6, stat))).limit).toBe(5e8);
    const root = "/sys/fs/cgroup/memory/jobs";
    const inner = within(`${root}/outer/inner`, firstMemory(1e9, 625e6));
    const outer = within(`${root}/outer`, firstMemory(7e8, 625e6));
    expect(of(separate, inner, outer).limit).toBe(7e8);
    expect(of(separate, inner, outer, { [`${root}/outer/memory.use_hierarchy`]: "0\n" }).limit).toBe(1e9);
  });

  it("is never less than nothing, nor more than the limit, whatever the figures are", () => {
    const available = (files: Recording) => of(namespaced, within("/sys/fs/cgroup", second(files))).available;
    expect(available({ "memory.max": "1000\n", "memory.current": "5000\n" })).toBe(0);
    expect(available({ "memory.max": "1000\n", "memory.current": "500\n", "memory.stat": secondStat })).toBe(1000);
    const dirty = "inactive_file 100\nactive_file 0\nfile_dirty 900\n";
    expect(available({ "memory.max": "1000\n", "memory.current": "500\n", "memory.stat": dirty })).toBe(500);
    expect(available({ "memory.max": "1000\n" })).toBe(1000);
  });

  it.each(["", "\n", "max\n", "-1\n", "9223372036854771712\n", "18446744073709551615\n", "1 GB\n", "NaN\n"])(
    "has no limit that is written as %j",
    (text) => {
      expect(of(namespaced, within("/sys/fs/cgroup", second({ "memory.max": text })))).toEqual({});
    },
  );
});

describe("the memory of this process", () => {
  const free = 4_000_000 * 1024;
  const own = 40_000 * 1024;

  it("is what the machine has where no group bounds it; its own pages of files are not its alone", () => {
    expect(memoryAllowance(reading(machine))).toEqual({ limit: undefined, available: free, grouped: false, own });
  });

  it("is what the group has if that is less", () => {
    const group = (limit: number) => within("/sys/fs/cgroup/memory", firstMemory(limit, 625e6));
    const used = 625e6 - reclaimable;
    const allowance = (limit: number) => memoryAllowance(reading(docker, machine, group(limit)));
    expect(allowance(1e9)).toEqual({ limit: 1e9, available: 1e9 - used, grouped: true, own });
    expect(allowance(1e11)).toEqual({ limit: 1e11, available: free, grouped: false, own });
  });

  it("is what the runtime says on other systems", () => {
    const allowance = memoryAllowance(reading({}));
    expect(allowance.limit).toBeUndefined();
    expect(allowance.available).toBeGreaterThan(0);
    expect(allowance.own).toBeGreaterThan(1e6);
  });
});
