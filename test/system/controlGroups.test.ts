import { describe, expect, it } from "vitest";
import { controlGroups } from "#stellium/system/controlGroups";
import {
  docker,
  hybrid,
  lxc,
  namespaced,
  type Recording,
  reading,
  second,
  separate,
  service,
  within,
} from "./recordings.ts";

const probe = { "memory.limit_in_bytes": "1\n", "cpu.cfs_quota_us": "-1\n", "cgroup.controllers": "cpu memory\n" };
const found = (recording: Recording, ...directories: string[]) =>
  controlGroups("memory", reading(recording, ...directories.map((directory) => within(directory, probe))));

describe("the control groups of this process", () => {
  it("are its own and all parents, in version 1 by controller", () => {
    const memory = "/sys/fs/cgroup/memory";
    expect(found(separate, `${memory}/jobs/outer/inner`)).toEqual({
      version: 1,
      directories: [`${memory}/jobs/outer/inner`, `${memory}/jobs/outer`, `${memory}/jobs`, memory],
    });
    const cpu = "/sys/fs/cgroup/cpu";
    expect(controlGroups("cpu", reading(separate, within(`${cpu}/jobs/outer/inner`, probe)))?.directories[0]).toBe(
      `${cpu}/jobs/outer/inner`,
    );
  });

  it("are what is mounted in a container", () => {
    const memory = "/sys/fs/cgroup/memory";
    expect(found(docker, memory)).toEqual({ version: 1, directories: [memory] });
    expect(controlGroups("cpu", reading(docker, within("/sys/fs/cgroup/cpu,cpuacct", probe)))).toEqual({
      version: 1,
      directories: ["/sys/fs/cgroup/cpu,cpuacct"],
    });
    expect(found(lxc, `${memory}/init.scope`)).toEqual({ version: 1, directories: [`${memory}/init.scope`, memory] });
    expect(found(namespaced, "/sys/fs/cgroup")).toEqual({ version: 2, directories: ["/sys/fs/cgroup"] });
  });

  it("are a service and its slices in version 2", () => {
    const root = "/sys/fs/cgroup";
    const own = `${root}/system.slice/stellium-serve.service`;
    expect(found(service, own)).toEqual({ version: 2, directories: [own, `${root}/system.slice`, root] });
  });

  it("are those of version 1 where both are mounted, and of version 2 for controllers that version 1 has not", () => {
    expect(found(hybrid, "/sys/fs/cgroup/memory/user.slice")?.version).toBe(1);
    const without = { ...hybrid, "/proc/self/cgroup": "3:cpu,cpuacct:/user.slice\n0::/user.slice/s.scope\n" };
    const unified = "/sys/fs/cgroup/unified";
    expect(found(without, `${unified}/user.slice/s.scope`)).toEqual({
      version: 2,
      directories: [`${unified}/user.slice/s.scope`, `${unified}/user.slice`, unified],
    });
  });

  it("are what is mounted where names are those of another namespace", () => {
    const mount = (root: string) => `1 2 0:29 ${root} /sys/fs/cgroup rw - cgroup2 cgroup rw\n`;
    const groups = (path: string, root: string, ...directories: string[]) =>
      found({ "/proc/self/cgroup": `0::${path}\n`, "/proc/self/mountinfo": mount(root) }, ...directories)?.directories;
    const point = "/sys/fs/cgroup";
    expect(groups("/", "/../..", point)).toEqual([point]);
    expect(groups("/", "/docker/3f1c", point)).toEqual([point]);
    expect(groups("/../box", "/..", `${point}/box`)).toEqual([`${point}/box`, point]);
    expect(groups("/docker/3f1c", "/", point)).toEqual([point]);
    expect(groups("/gone (deleted)", "/", point)).toEqual([point]);
  });

  it("are seen through the mount that covers another", () => {
    const mountinfo =
      "52 48 0:32 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n65 52 0:32 /jobs/a /sys/fs/cgroup rw - cgroup2 cgroup rw\n";
    const recording = { "/proc/self/cgroup": "0::/jobs/a/b\n", "/proc/self/mountinfo": mountinfo };
    const point = "/sys/fs/cgroup";
    expect(found(recording, point, `${point}/b`)?.directories).toEqual([`${point}/b`, point]);
  });

  it("are unknown outside of the namespace, whatever the path says", () => {
    const mountinfo = { "/proc/self/mountinfo": "1 2 0:29 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n" };
    const outside = { ...mountinfo, "/proc/self/cgroup": "0::/../../etc\n" };
    expect(found(outside, "/sys/fs/cgroup", "/sys/fs/cgroup/../../etc")).toBeUndefined();
  });

  it("are none without mounts, without groups, and on other systems", () => {
    expect(found({})).toBeUndefined();
    expect(found({ "/proc/self/cgroup": "0::/\n" })).toBeUndefined();
    expect(found({ ...namespaced, "/proc/self/cgroup": "" })).toBeUndefined();
    expect(found({ ...namespaced, "/proc/self/cgroup": "memory\n::\n4:memory\n" })).toBeUndefined();
    expect(found({ ...namespaced, "/proc/self/mountinfo": " - \n- - -\n1 2 - cgroup2\n\n" })).toBeUndefined();
  });

  it("may have blanks in the path that they are mounted at", () => {
    const mountinfo = { "/proc/self/mountinfo": "1 2 0:29 / /my\\040groups rw - cgroup2 cgroup rw\n" };
    const files = within("/my groups", second({}));
    expect(controlGroups("cpu", reading(namespaced, mountinfo, files))?.directories).toEqual(["/my groups"]);
  });
});
