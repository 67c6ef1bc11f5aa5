import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { lanUnavailable } from "./available.mjs";
import { Group, intoGroups, ownGroups } from "./cgroups.mjs";
import { compiled } from "./compile.mjs";
import { Device } from "./device.mjs";
import { newName } from "./names.mjs";
import { inside, makeNetwork, namespaceOf } from "./network.mjs";
import { own, removeLan, removeStale } from "./removal.mjs";
import { readState, statePath, writeState } from "./state.mjs";

export { lanUnavailable } from "./available.mjs";

/**
 * @typedef {object} Link
 * @property {number} [latencyMs] one way between two such devices (1); between unlike ones, the mean of theirs
 * @property {number} [jitterMs] at most this is added to a trip, evenly; it never reorders (0)
 * @property {number} [mbit] each way, counted as on a wire; 0 for no limit (300)
 * @property {number} [upMbit]
 * @property {number} [downMbit]
 *
 * @typedef {object} Shared
 * @property {number} devices
 * @property {number} [queueMs] the longest wait in a link's queue: what would wait longer is dropped (100)
 * @property {string} [congestion] TCP's congestion control ("cubic")
 * @property {Link[]} [perDevice] what is different for a device
 * @typedef {Link & Shared} LanOptions
 *
 * @typedef {import("./state.mjs").State} State
 * @typedef {import("./state.mjs").FullLink} FullLink
 * @typedef {{ frames: number, bytes: number, dropped: number }} LinkCounters
 * @typedef {{ socketDrops: number, sendErrors: number, tooLong: number }} Losses the machine's, not the model's
 * @typedef {Losses & { up: LinkCounters, down: LinkCounters }} PortCounters
 * @typedef {object} Counters lateness is that of the frames sent since the counters before
 * @property {number} counted
 * @property {number} cpuSeconds
 * @property {{ frames: number, early: number, meanUs: number, p50Us: number, p99Us: number, maxUs: number }} lateness
 * @property {PortCounters[]} ports
 */

const maxDevices = 64;
const countersMs = 2000;

/**
 * Makes an emulated LAN, which lasts until it is disposed of or this process ends.
 * @param {LanOptions} options
 */
export async function startLan(options) {
  const { devices, queueMs = 100, congestion = "cubic" } = options;
  if (!(devices >= 2 && devices <= maxDevices)) throw new RangeError(`a LAN has 2 to ${maxDevices} devices`);
  const reason = lanUnavailable();
  if (reason) throw new Error(reason);
  removeStale();
  const name = own(newName());
  try {
    const links = Array.from({ length: devices }, (_, index) => linkOf(options, options.perDevice?.[index]));
    const state = { name, switchPid: 0, groups: groupsFor(name), links };
    writeState(state);
    makeNetwork(name, devices, congestion);
    const switching = await startSwitch(state, queueMs);
    state.switchPid = switching.pid ?? 0;
    writeState(state);
    return new Lan(state, switching);
  } catch (error) {
    removeLan(name);
    throw error;
  }
}

/**
 * A LAN that another process has made, and that goes with that process.
 * @param {string} name
 */
export function openLan(name) {
  return new Lan(readState(name));
}

class Lan {
  #switchPid;
  #switch;

  /** @param {State} state @param {import("node:child_process").ChildProcess} [switching] where it is a child of ours */
  constructor({ name, switchPid, groups, links }, switching) {
    this.#switchPid = switchPid;
    this.#switch = switching;
    this.name = name;
    this.links = links;
    this.devices = links.map((_, index) => new Device(name, index, groups).make());
  }

  /** What the switch has counted: with drops or much lateness, the machine and not the model made the result. */
  async counters() {
    const before = readCounters(this.name)?.counted ?? 0;
    process.kill(this.#switchPid, "SIGUSR1");
    for (const end = Date.now() + countersMs; Date.now() < end; await sleep(5)) {
      const counters = readCounters(this.name);
      if (counters && counters.counted > before) return counters;
    }
    throw new Error(`the switch does not answer: ${logOf(this.name)}`);
  }

  /** Kills what runs on the devices, and removes all that was made. */
  async [Symbol.asyncDispose]() {
    removeLan(this.name);
    if (!this.#switch || hasEnded(this.#switch)) return;
    this.#switch.ref();
    await once(this.#switch, "exit");
  }
}

/** @param {import("node:child_process").ChildProcess} child */
function hasEnded({ exitCode, signalCode }) {
  return exitCode !== null || signalCode !== null;
}

/**
 * @param {Link} shared
 * @param {Link} [different]
 * @returns {FullLink}
 */
function linkOf(shared, different = {}) {
  const { latencyMs = 1, jitterMs = 0, mbit = 300 } = { ...shared, ...different };
  const rates = different.mbit === undefined ? { ...shared, ...different } : different;
  return { latencyMs, jitterMs, upMbit: rates.upMbit ?? mbit, downMbit: rates.downMbit ?? mbit };
}

/** @param {string} name */
function groupsFor(name) {
  return Object.fromEntries(Object.entries(ownGroups()).map(([controller, path]) => [controller, join(path, name)]));
}

/**
 * Runs the switch until it is killed or this process ends, in a group of its own by which it is found.
 * @param {State} state
 * @param {number} queueMs
 */
async function startSwitch({ name, groups, links }, queueMs) {
  const group = new Group({ memory: `${groups["memory"]}/switch` }).make();
  const program = [compiled("linkem"), "-q", String(queueMs), "-c", statePath(name, "counters.json")];
  const words = intoGroups(group, [...inside(namespaceOf(name, "switch")), ...program, ...links.map(portOf)]);
  const log = openSync(statePath(name, "log"), "w");
  const child = spawn("sh", words, { stdio: ["ignore", "pipe", log] });
  closeSync(log);
  const [first] = await Promise.race([
    once(child, "exit"),
    once(/** @type {import("node:stream").Readable} */ (child.stdout), "data"),
  ]);
  if (!(first instanceof Buffer)) throw new Error(`the switch did not start: ${logOf(name)}`);
  child.stdout?.destroy();
  child.unref();
  return child;
}

/** @param {FullLink} link @param {number} index */
function portOf({ latencyMs, jitterMs, upMbit, downMbit }, index) {
  return `p${index}:delay=${latencyMs * 500}:jitter=${jitterMs * 1000}:up=${upMbit}:down=${downMbit}`;
}

/** @param {string} name */
function logOf(name) {
  return readFileSync(statePath(name, "log"), "utf8").trim();
}

/**
 * @param {string} name
 * @returns {Counters | undefined}
 */
function readCounters(name) {
  try {
    return JSON.parse(readFileSync(statePath(name, "counters.json"), "utf8"));
  } catch {
    return undefined;
  }
}
