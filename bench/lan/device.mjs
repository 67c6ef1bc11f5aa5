import { spawn } from "node:child_process";
import { Group, intoGroups } from "./cgroups.mjs";
import { addressOf, inside, namespaceOf } from "./network.mjs";
import { run } from "./shell.mjs";

/**
 * @typedef {import("./cgroups.mjs").Limits} Limits
 * @typedef {object} Process
 * @property {string} [cores] the cores that it may use, as taskset takes them, such as "0"
 * @property {Record<string, string>} [env] added to this process's environment
 * @property {import("node:child_process").StdioOptions} [stdio]
 */

/** One emulated device: an address on the LAN, and limits that hold for all that runs on it together. */
export class Device {
  #namespace;
  #group;

  /** @param {string} lan @param {number} index @param {Record<string, string>} groups of the LAN, by controller */
  constructor(lan, index, groups) {
    this.index = index;
    this.address = addressOf(index);
    this.#namespace = namespaceOf(lan, index);
    const paths = Object.entries(groups).map(([controller, path]) => [controller, `${path}/${index}`]);
    this.#group = new Group(Object.fromEntries(paths));
  }

  /** Makes the groups that `limit`, `spawn` and `stat` use. */
  make() {
    this.#group.make();
    return this;
  }

  /**
   * Runs a command on the device. The child's pid is the command's own. Limits are the device's: those given replace
   * what it had, 0 lifts one, and those left out stay.
   * @param {string} command
   * @param {string[]} [args]
   * @param {Limits & Process} [options]
   */
  spawn(command, args = [], { cores, env, stdio = "pipe", ...limits } = {}) {
    this.limit(limits);
    const pinned = cores === undefined ? [] : ["taskset", "-c", cores];
    const words = [...pinned, ...inside(this.#namespace), command, ...args];
    const all = { ...process.env, ...env, STELLIUM_LAN_DEVICE: String(this.index) };
    return spawn("sh", intoGroups(this.#group, words), { stdio, env: all });
  }

  /** @param {Limits} limits `cpu` in cores, `memory` in bytes, `readBps` in bytes a second from disks */
  limit(limits) {
    this.#group.limit(limits);
  }

  stat() {
    return this.#group.stat();
  }

  /** Starts the peak of memory again. */
  resetPeak() {
    this.#group.resetPeak();
  }
}

/**
 * Drops a file from the page cache, which all devices share: the next read is from the disk, and counts for who reads.
 * @param {string} path
 */
export function evict(path) {
  run("dd", [`if=${path}`, "iflag=nocache", "count=0", "status=none"]);
}
