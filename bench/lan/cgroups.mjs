import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pause } from "./shell.mjs";

/** @typedef {{ cpu?: number, memory?: number, readBps?: number }} Limits */

const controllers = ["memory", "cpu", "cpuacct", "blkio"];
const root = "/sys/fs/cgroup";
/** The kernel gives no less at a time. */
const leastQuotaUs = 1000;
const defaultPeriodUs = 100_000;
const beyondMemory = 65_536;
const killMs = 3000;

/** This process's own groups, by controller: devices are made inside, so that what limits it limits them as well. */
export function ownGroups() {
  const lines = readFileSync("/proc/self/cgroup", "utf8").trim().split("\n");
  const paths = new Map(lines.flatMap((line) => entries(line.split(":"))));
  return Object.fromEntries(
    controllers.map((controller) => [controller, join(root, controller, paths.get(controller) ?? "")]),
  );
}

/** @param {string[]} fields @returns {[string, string][]} */
function entries([, names = "", ...path]) {
  return names.split(",").map((name) => [name, path.join(":")]);
}

/** One device's groups, one for each controller. */
export class Group {
  /** @param {Record<string, string>} paths by controller */
  constructor(paths) {
    this.paths = paths;
  }

  make() {
    for (const path of Object.values(this.paths)) mkdirSync(path, { recursive: true });
    return this;
  }

  /** Files to which a process writes its number to be in the group. */
  get doors() {
    return [...new Set(Object.values(this.paths))].map((path) => join(path, "cgroup.procs"));
  }

  /**
   * What is left out stays as it is; 0 lifts a limit.
   * @param {Limits} limits
   */
  limit({ cpu, memory, readBps }) {
    if (memory !== undefined) this.#limitMemory(memory);
    if (cpu !== undefined) this.#limitCpu(cpu);
    if (readBps !== undefined)
      for (const disk of disks()) this.#write("blkio", "throttle.read_bps_device", `${disk} ${readBps}`);
  }

  /** Swap is no way out, and a little more than memory, so that reaching the limit is counted. @param {number} bytes */
  #limitMemory(bytes) {
    const swap = existsSync(this.#file("memory", "memsw.limit_in_bytes"));
    if (swap) this.#write("memory", "memsw.limit_in_bytes", -1);
    this.#write("memory", "limit_in_bytes", bytes || -1);
    if (swap && bytes) this.#write("memory", "memsw.limit_in_bytes", bytes + beyondMemory);
  }

  /** In periods as short as they can be: a slow processor does not stand still for milliseconds. @param {number} cores */
  #limitCpu(cores) {
    const period = cores ? Math.ceil(leastQuotaUs / Math.min(cores, 1)) : defaultPeriodUs;
    this.#write("cpu", "cfs_period_us", period);
    this.#write("cpu", "cfs_quota_us", cores ? Math.max(leastQuotaUs, Math.round(cores * period)) : -1);
  }

  stat() {
    const memory = table(this.#read("memory", "stat"));
    const disk = this.#read("blkio", "throttle.io_service_bytes");
    return {
      peakBytes: Number(this.#read("memory", "max_usage_in_bytes")),
      currentBytes: Number(this.#read("memory", "usage_in_bytes")),
      rssBytes: memory.get("rss") ?? 0,
      cacheBytes: memory.get("cache") ?? 0,
      mappedBytes: memory.get("mapped_file") ?? 0,
      limitHits: Number(this.#read("memory", "failcnt")),
      oomKills: table(this.#read("memory", "oom_control")).get("oom_kill") ?? 0,
      cpuSeconds: Number(this.#read("cpuacct", "usage")) / 1e9,
      throttledPeriods: table(this.#read("cpu", "stat")).get("nr_throttled") ?? 0,
      readBytes: ofDisks(disk, "Read"),
      writtenBytes: ofDisks(disk, "Write"),
      processes: pidsOf(this.paths["memory"] ?? "").length,
    };
  }

  /** Lets the peak start again from what is in use now. */
  resetPeak() {
    this.#write("memory", "max_usage_in_bytes", 0);
    this.#write("memory", "failcnt", 0);
  }

  /** @param {string} controller @param {string} name */
  #file(controller, name) {
    return join(this.paths[controller] ?? "", `${controller}.${name}`);
  }

  /** @param {string} controller @param {string} name */
  #read(controller, name) {
    return readFileSync(this.#file(controller, name), "utf8");
  }

  /** @param {string} controller @param {string} name @param {string | number} value */
  #write(controller, name, value) {
    writeFileSync(this.#file(controller, name), String(value));
  }
}

/** The shell is the process that becomes the command: it must be in the groups before it has used any memory. */
const enter = 'doors=$1; shift; for door in $doors; do echo $$ >"$door" || exit 125; done; exec "$@"';

/**
 * What to give sh, so that it runs a command in a group.
 * @param {Group} group
 * @param {string[]} words
 */
export function intoGroups(group, words) {
  return ["-c", enter, "sh", group.doors.join(" "), ...words];
}

/** Kills all that runs in a group and the groups in it, and removes them. @param {string} path */
export function removeGroup(path) {
  for (let left = killMs; existsSync(path); left -= 10) {
    for (const group of [...groupsIn(path), path]) empty(group);
    if (left <= 0) throw new Error(`${path} cannot be removed: it is in use`);
    if (existsSync(path)) pause(10);
  }
}

/** @param {string} path */
function empty(path) {
  for (const pid of pidsOf(path)) attempt(() => process.kill(pid, "SIGKILL"));
  attempt(() => rmdirSync(path));
}

/** @param {string} path */
function groupsIn(path) {
  const found = attempt(() => readdirSync(path, { withFileTypes: true })) ?? [];
  return found.filter((entry) => entry.isDirectory()).map(({ name }) => join(path, name));
}

/** @param {string} path */
function pidsOf(path) {
  const text = attempt(() => readFileSync(join(path, "cgroup.procs"), "utf8")) ?? "";
  return text.split("\n").filter(Boolean).map(Number);
}

/** Undefined where it fails: another may have removed the same thing meanwhile. @template T @param {() => T} action */
function attempt(action) {
  try {
    return action();
  } catch {
    return undefined;
  }
}

/** Limits are by whole disk. */
function disks() {
  const names = readdirSync("/sys/block").filter((name) => Number(readFileSync(`/sys/block/${name}/size`, "utf8")) > 0);
  return names.map((name) => readFileSync(`/sys/block/${name}/dev`, "utf8").trim());
}

/** @param {string} text */
function table(text) {
  const rows = text.split("\n").map((line) => line.split(" "));
  return new Map(rows.map(([name = "", value]) => [name, Number(value)]));
}

/** @param {string} text @param {string} operation */
function ofDisks(text, operation) {
  const rows = text.split("\n").map((line) => line.split(" "));
  return rows.filter((row) => row[1] === operation).reduce((sum, row) => sum + Number(row[2]), 0);
}
