import { spawn } from "node:child_process";
import { once } from "node:events";
import { accessSync, constants } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { Group, intoGroups, ownGroups, removeGroup } from "../lan/cgroups.mjs";

/** @typedef {import("../lan/cgroups.mjs").Limits} Limits */
/** @typedef {{ code: number | null, stdout: string, stderr: string }} Outcome */
/** @typedef {{ peakBytes: number, oomKills: number }} Charged What control groups counted, the most of all of them. */

let made = 0;

/** Throws where control groups cannot be made. */
export function requireGroups() {
  try {
    for (const path of Object.values(ownGroups())) accessSync(join(path, "cgroup.procs"), constants.W_OK);
  } catch {
    throw new Error("caps are held against control groups: this needs Linux, root and cgroup v1");
  }
}

/**
 * Makes a control group of its own for each device, and removes them with all that runs in them when `use` is done,
 * however it or the process ends.
 * @template T
 * @param {number} count
 * @param {Limits} limits
 * @param {(groups: [Group, ...Group[]]) => Promise<T>} use
 * @returns {Promise<T & { charged: Charged }>}
 */
export async function inGroups(count, limits, use) {
  const further = Array.from({ length: count - 1 }, () => new Group(freshPaths()));
  /** @type {[Group, ...Group[]]} */
  const groups = [new Group(freshPaths()), ...further];
  const remove = () => groups.flatMap(({ paths }) => Object.values(paths)).forEach(removeGroup);
  process.on("exit", remove);
  try {
    for (const group of groups) group.make().limit(limits);
    return { ...(await use(groups)), charged: chargedTo(groups) };
  } finally {
    remove();
    process.off("exit", remove);
  }
}

function freshPaths() {
  const name = `stellium-memory-${process.pid}-${made++}`;
  return Object.fromEntries(Object.entries(ownGroups()).map(([controller, own]) => [controller, join(own, name)]));
}

/** @param {Group[]} groups @returns {Charged} */
function chargedTo(groups) {
  const stats = groups.map((group) => group.stat());
  const most = (/** @type {"peakBytes" | "oomKills"} */ key) => Math.max(...stats.map((stat) => stat[key]));
  return { peakBytes: most("peakBytes"), oomKills: most("oomKills") };
}

/**
 * Starts Node in a group.
 * @param {Group} group
 * @param {string[]} args
 * @param {{ signal: AbortSignal, env?: Record<string, string>, input?: string }} options
 */
export function startIn(group, args, { signal, env = {}, input = "" }) {
  signal.throwIfAborted();
  const child = spawn("sh", intoGroups(group, [process.execPath, ...args]), { env: { ...process.env, ...env } });
  const kill = () => void child.kill("SIGKILL");
  signal.addEventListener("abort", kill);
  // A child that dies early closes its stdin: its exit code tells more.
  child.stdin.on("error", () => {});
  child.stdin.end(input);
  const outcome = outcomeOf(child, signal).finally(() => signal.removeEventListener("abort", kill));
  return { outcome, kill };
}

/**
 * @param {import("node:child_process").ChildProcessWithoutNullStreams} child
 * @param {AbortSignal} signal
 * @returns {Promise<Outcome>}
 */
async function outcomeOf(child, signal) {
  const ended = once(child, "close");
  const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), ended]);
  signal.throwIfAborted();
  return { code, stdout, stderr };
}

/**
 * What a process said, or why it did not.
 * @param {string} what Its name, for an error.
 * @param {Outcome} outcome
 */
export function replyOf(what, { code, stdout, stderr }) {
  if (code === 0) return JSON.parse(stdout);
  throw new Error(
    `${what} failed: exit ${code}\n${stderr
      .split(/[\r\n]+/)
      .slice(-12)
      .join("\n")}`,
  );
}
