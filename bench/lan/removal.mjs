import { join } from "node:path";
import { ownGroups, removeGroup } from "./cgroups.mjs";
import { isStale, namesIn } from "./names.mjs";
import { namespaces, removeNetwork } from "./network.mjs";
import { readState, removeState, stateRoot } from "./state.mjs";

/** @type {Set<string>} */
const owned = new Set();
/** @type {NodeJS.Signals[]} */
const signals = ["SIGINT", "SIGTERM", "SIGHUP"];

/**
 * From now on the LAN goes when this process does, whatever ends it but a kill.
 * @param {string} name
 */
export function own(name) {
  if (owned.size === 0) {
    process.on("exit", removeOwned);
    for (const signal of signals) process.on(signal, onSignal);
  }
  owned.add(name);
  return name;
}

/** @param {string} name */
export function removeLan(name) {
  if (!owned.has(name)) return;
  remove(name);
  owned.delete(name);
  if (owned.size > 0) return;
  process.off("exit", removeOwned);
  for (const signal of signals) process.off(signal, onSignal);
}

/** Removes what processes that were killed have left. */
export function removeStale() {
  const places = [stateRoot, namespaces, ...Object.values(ownGroups())];
  for (const name of namesIn(places)) if (isStale(name)) remove(name);
}

function removeOwned() {
  for (const name of owned) removeLan(name);
}

/**
 * Who else listens to the signal decides whether this process ends, and the LAN lasts until then.
 * @param {NodeJS.Signals} signal
 */
function onSignal(signal) {
  if (process.listenerCount(signal) > 1) return;
  removeOwned();
  process.kill(process.pid, signal);
}

/** @param {string} name */
function remove(name) {
  for (const path of groupsOf(name)) removeGroup(path);
  removeNetwork(name);
  removeState(name);
}

/**
 * A LAN's groups are in those of the process that made it, which may be others than this one's.
 * @param {string} name
 */
function groupsOf(name) {
  try {
    return Object.values(readState(name).groups);
  } catch {
    return Object.values(ownGroups()).map((path) => join(path, name));
  }
}
