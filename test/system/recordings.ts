import type { ReadText } from "#stellium/system/readText";

/** Contents of files of `/proc` and `/sys`, by path. */
export type Recording = Readonly<Record<string, string>>;

/** Reads a recording in place of this system. */
export function reading(...recordings: readonly Recording[]): ReadText {
  const all = Object.assign({}, ...recordings) as Recording;
  return (path) => all[path];
}

/** The files of a directory. */
export function within(directory: string, files: Recording): Recording {
  return Object.fromEntries(Object.entries(files).map(([name, text]) => [`${directory}/${name}`, text]));
}

/** `memory.stat` of a group of version 1 that has read a model of 620 MB. */
export const firstStat = `cache 0
rss 135168
inactive_file 0
active_file 0
hierarchical_memory_limit 9223372036854771712
total_cache 619995136
total_rss 2097152
total_shmem 0
total_dirty 1048576
total_writeback 0
total_inactive_anon 2097152
total_active_anon 0
total_inactive_file 600000000
total_active_file 19995136
total_unevictable 0
`;

/** The same of version 2. */
export const secondStat = `anon 2097152
file 619995136
kernel 4194304
slab 3145728
shmem 0
file_mapped 0
file_dirty 1048576
file_writeback 0
inactive_anon 2097152
active_anon 0
inactive_file 600000000
active_file 19995136
slab_reclaimable 2097152
slab_unreclaimable 1048576
`;

const noLimit = "9223372036854771712\n";

/** A group of version 1, as the `memory` controller has it. */
export function firstMemory(limit: number | undefined, usage: number, stat = firstStat): Recording {
  return {
    "memory.limit_in_bytes": limit === undefined ? noLimit : `${limit}\n`,
    "memory.usage_in_bytes": `${usage}\n`,
    "memory.use_hierarchy": "1\n",
    "memory.stat": stat,
  };
}

/** A group of version 1, as the `cpu` controller has it. */
export function firstCpu(quota: number, [periods, throttled] = [0, 0]): Recording {
  return {
    "cpu.cfs_quota_us": `${quota}\n`,
    "cpu.cfs_period_us": "100000\n",
    "cpu.stat": `nr_periods ${periods}\nnr_throttled ${throttled}\nthrottled_time 123456789\n`,
  };
}

/** A group of version 2 with both controllers. */
export function second(files: Recording): Recording {
  return { "cgroup.controllers": "cpuset cpu io memory pids\n", "cgroup.procs": "1\n", ...files };
}

const tmpfs = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n";

/** Version 1 with a mount for each controller. */
export const separate: Recording = {
  "/proc/self/cgroup": "9:name=systemd:/\n4:memory:/jobs/outer/inner\n2:cpuacct:/\n1:cpu:/jobs/outer/inner\n0::/\n",
  "/proc/self/mountinfo":
    `23 0 259:0 / / rw,relatime - ext4 /dev/vda rw\n${tmpfs}` +
    "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n" +
    "33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct\n" +
    "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n" +
    "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n",
};

/** Docker on version 1 without a namespace: what is mounted is the container's group, under the host's name for it. */
export const docker: Recording = {
  "/proc/self/cgroup": "11:cpu,cpuacct:/docker/3f1c\n6:memory:/docker/3f1c\n1:name=systemd:/docker/3f1c\n",
  "/proc/self/mountinfo":
    "811 810 0:31 /docker/3f1c /sys/fs/cgroup/systemd ro,nosuid shared:9 - cgroup cgroup rw,xattr,name=systemd\n" +
    "812 810 0:33 /docker/3f1c /sys/fs/cgroup/cpu,cpuacct ro,nosuid master:15 - cgroup cgroup rw,cpu,cpuacct\n" +
    "813 810 0:36 /docker/3f1c /sys/fs/cgroup/memory ro,nosuid master:18 - cgroup cgroup rw,memory\n",
};

/** Docker, Podman and LXC on version 2 with a namespace: the group is called `/` and mounted as such. */
export const namespaced: Recording = {
  "/proc/self/cgroup": "0::/\n",
  "/proc/self/mountinfo":
    "1530 1524 0:29 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw,nsdelegate\n",
};

/** LXC on version 1: the container sees a part of the host's tree. */
export const lxc: Recording = {
  "/proc/self/cgroup":
    "5:memory:/lxc/box/init.scope\n3:cpu,cpuacct:/lxc/box/init.scope\n1:name=systemd:/lxc/box/init.scope\n",
  "/proc/self/mountinfo":
    "300 290 0:27 /lxc/box /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n" +
    "301 290 0:28 /lxc/box /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n",
};

/** A systemd service on version 2. */
export const service: Recording = {
  "/proc/self/cgroup": "0::/system.slice/stellium-serve.service\n",
  "/proc/self/mountinfo":
    "24 1 8:1 / / rw - ext4 /dev/sda1 rw\n35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
};

/** Version 1 for controllers beside version 2 for systemd. */
export const hybrid: Recording = {
  "/proc/self/cgroup":
    "7:memory:/user.slice\n3:cpu,cpuacct:/user.slice\n1:name=systemd:/user.slice/s.scope\n0::/user.slice/s.scope\n",
  "/proc/self/mountinfo":
    "30 25 0:26 / /sys/fs/cgroup/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw\n" +
    "36 25 0:33 / /sys/fs/cgroup/cpu,cpuacct rw shared:17 - cgroup cgroup rw,cpu,cpuacct\n" +
    "38 25 0:35 / /sys/fs/cgroup/memory rw shared:19 - cgroup cgroup rw,memory\n",
};

/** Memory of a process on a machine with 4 GB free. */
export const machine: Recording = {
  "/proc/meminfo": "MemTotal:        8000000 kB\nMemFree:          200000 kB\nMemAvailable:    4000000 kB\n",
  "/proc/self/status": "VmRSS:\t   90000 kB\nRssAnon:\t   40000 kB\nRssFile:\t   50000 kB\nRssShmem:\t       0 kB\n",
};
