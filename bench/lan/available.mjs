import { spawnSync } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { join } from "node:path";
import { ownGroups } from "./cgroups.mjs";

/** @type {{ reason: string | undefined } | undefined} */
let known;

/** Why there can be no emulated LAN here, or undefined where there can. */
export function lanUnavailable() {
  known ??= { reason: whyNot() };
  return known.reason;
}

function whyNot() {
  if (process.platform !== "linux") return "an emulated LAN needs Linux";
  if (process.getuid?.() !== 0) return "an emulated LAN needs root";
  const missing = ["ip", "cc", "nsenter", "unshare", "taskset"].find((name) => !onPath(name));
  if (missing) return `an emulated LAN needs the command ${missing}`;
  const { status } = spawnSync("unshare", ["--net", "--mount", "ip", "link", "add", "p0", "type", "veth"]);
  return status === 0 ? withoutGroups() : "network namespaces with veth pairs cannot be made here";
}

/** @param {string} command */
function onPath(command) {
  const folders = (process.env["PATH"] ?? "").split(":");
  return folders.some((folder) => may(join(folder, command), constants.X_OK));
}

function withoutGroups() {
  const groups = Object.entries(ownGroups());
  const [controller] = groups.find(([, path]) => !may(join(path, "cgroup.procs"), constants.W_OK)) ?? [];
  return controller && `an emulated LAN needs cgroup v1, and its ${controller} cannot be written to here`;
}

/** @param {string} path @param {number} mode */
function may(path, mode) {
  try {
    accessSync(path, mode);
    return true;
  } catch {
    return false;
  }
}
