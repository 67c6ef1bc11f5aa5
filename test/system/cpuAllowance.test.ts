import { availableParallelism } from "node:os";
import { describe, expect, it } from "vitest";
import { cpuAllowance, processorsIn, throttling } from "#stellium/system/cpuAllowance";
import {
  docker,
  firstCpu,
  namespaced,
  type Recording,
  reading,
  second,
  separate,
  service,
  within,
} from "./recordings.ts";

const quota = (...recordings: Recording[]) => cpuAllowance(reading(...recordings)).quota;

describe("a CPU quota", () => {
  it("of version 1 is the smallest of the group and its parents", () => {
    const root = "/sys/fs/cgroup/cpu";
    const levels = (inner: number, outer: number) => [
      within(`${root}/jobs/outer/inner`, firstCpu(inner)),
      within(`${root}/jobs/outer`, firstCpu(outer)),
      within(`${root}/jobs`, firstCpu(-1)),
      within(root, firstCpu(-1)),
    ];
    expect(quota(separate, ...levels(-1, -1))).toBeUndefined();
    expect(quota(separate, ...levels(100_000, -1))).toBe(1);
    expect(quota(separate, ...levels(400_000, 150_000))).toBe(1.5);
    expect(quota(separate, ...levels(50_000, 150_000))).toBe(0.5);
  });

  it("of version 2 is the smallest of the service and its slices", () => {
    const root = "/sys/fs/cgroup";
    const own = `${root}/system.slice/stellium-serve.service`;
    const levels = (service: string, slice: string) => [
      within(own, second({ "cpu.max": service })),
      within(`${root}/system.slice`, second({ "cpu.max": slice })),
      within(root, second({})),
    ];
    expect(quota(service, ...levels("max 100000\n", "max 100000\n"))).toBeUndefined();
    expect(quota(service, ...levels("max 100000\n", "250000 100000\n"))).toBe(2.5);
    expect(quota(service, ...levels("20000 10000\n", "250000 100000\n"))).toBe(2);
    expect(quota(service, ...levels("70000\n", "max\n"))).toBe(0.7);
  });

  it("is seen in containers", () => {
    expect(quota(docker, within("/sys/fs/cgroup/cpu,cpuacct", firstCpu(200_000)))).toBe(2);
    expect(quota(namespaced, within("/sys/fs/cgroup", second({ "cpu.max": "50000 100000\n" })))).toBe(0.5);
  });

  it.each(["", "max", "-1 100000", "0 100000", "100000 0", "x 100000", "1e5 100000", "9223372036854771712 1"])(
    "is none that is written as %j",
    (text) => {
      expect(quota(namespaced, within("/sys/fs/cgroup", second({ "cpu.max": text })))).toBeUndefined();
    },
  );

  it("counts its periods in each group that has one", () => {
    const root = "/sys/fs/cgroup/cpu";
    const groups = [
      within(`${root}/jobs/outer/inner`, firstCpu(100_000, [40, 18])),
      within(`${root}/jobs/outer`, firstCpu(-1, [7, 7])),
      within(`${root}/jobs`, firstCpu(200_000, [50, 0])),
    ];
    expect(throttling(reading(separate, ...groups))).toEqual([
      { periods: 40, throttled: 18 },
      { periods: 50, throttled: 0 },
    ]);
    expect(throttling(reading(separate))).toEqual([]);
  });
});

describe("cores", () => {
  const siblings = (...lists: string[]): Recording =>
    Object.fromEntries(
      lists.map((list, cpu) => [`/sys/devices/system/cpu/cpu${cpu}/topology/thread_siblings_list`, `${list}\n`]),
    );
  const eight = siblings("0,4", "1,5", "2,6", "3,7", "0,4", "1,5", "2,6", "3,7");
  const cores = (mask: string, ...recordings: Recording[]) =>
    cpuAllowance(reading({ "/proc/self/status": `Name:\tnode\nCpus_allowed_list:\t${mask}\n` }, ...recordings)).cores;

  it("are those of the affinity mask, hyperthreads of a core counted once", () => {
    expect(cores("0-7", eight)).toBe(4);
    expect(cores("5", eight)).toBe(1);
    expect(cores("1,5", eight)).toBe(1);
    expect(cores("2,5", eight)).toBe(2);
    expect(cores("4-7", eight)).toBe(4);
  });

  it("are on: the mask may name more than there are", () => {
    expect(cores("0-127", eight, { "/sys/devices/system/cpu/online": "0-1\n" })).toBe(2);
  });

  it("are as many as processors where the system does not say, and those of the runtime without a mask", () => {
    expect(cores("0-2")).toBe(3);
    expect(cpuAllowance(reading({})).cores).toBe(availableParallelism());
    expect(cores("nonsense")).toBe(availableParallelism());
  });

  it("are read from lists, which may be malformed", () => {
    expect(processorsIn("0-3,8,10-11\n")).toEqual([0, 1, 2, 3, 8, 10, 11]);
    expect(processorsIn("3-1,x,-,5-,0x1,99999")).toEqual([]);
    expect(processorsIn("0-9999")).toHaveLength(8192);
  });
});
