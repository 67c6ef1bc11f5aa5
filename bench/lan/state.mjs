import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isStale, namesIn } from "./names.mjs";

/**
 * @typedef {{ latencyMs: number, jitterMs: number, upMbit: number, downMbit: number }} FullLink
 * @typedef {{ name: string, switchPid: number, groups: Record<string, string>, links: FullLink[] }} State
 *   `groups` are the LAN's cgroups, by controller
 */

export const stateRoot = "/run/stellium-lan";

/** @param {string} name @param {string} file */
export function statePath(name, file) {
  return join(stateRoot, name, file);
}

/** @param {State} state */
export function writeState(state) {
  mkdirSync(join(stateRoot, state.name), { recursive: true, mode: 0o700 });
  writeFileSync(statePath(state.name, "lan.json"), JSON.stringify(state));
}

/**
 * @param {string} name
 * @returns {State}
 */
export function readState(name) {
  return JSON.parse(readFileSync(statePath(name, "lan.json"), "utf8"));
}

/** @param {string} name */
export function removeState(name) {
  rmSync(join(stateRoot, name), { recursive: true, force: true });
}

/** Names of the LANs of processes that are alive. */
export function lanNames() {
  return namesIn([stateRoot]).filter((name) => !isStale(name));
}
