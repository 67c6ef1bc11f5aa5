import { readdirSync, readFileSync } from "node:fs";
import { threadId } from "node:worker_threads";

const pattern = /^(stellium-(\d+)-(\d+)-\d+-\d+)(?:-\w+)?$/;
let count = 0;

/** A name that no other LAN has or had: it tells which process made it, and when that started. */
export function newName() {
  return `stellium-${process.pid}-${startOf(process.pid)}-${threadId}-${count++}`;
}

/** @param {string} name */
export function ownerOf(name) {
  return Number(pattern.exec(name)?.[2]);
}

/**
 * Whether the process that made the LAN has ended.
 * @param {string} name
 */
export function isStale(name) {
  const [, , pid, start] = pattern.exec(name) ?? [];
  return startOf(Number(pid)) !== Number(start);
}

/**
 * The LANs of which something is in these directories.
 * @param {string[]} directories
 */
export function namesIn(directories) {
  const entries = directories.flatMap(list).map((entry) => pattern.exec(entry)?.[1]);
  return [...new Set(entries)].filter((name) => name !== undefined);
}

/** @param {string} directory */
function list(directory) {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

/**
 * When a process started, in ticks since boot; 0 where there is none, or only its corpse.
 * @param {number} pid
 */
function startOf(pid) {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, "latin1")
      .replace(/^.*\) /s, "")
      .split(" ");
    return fields[0] === "Z" || fields[0] === "X" ? 0 : Number(fields[19]);
  } catch {
    return 0;
  }
}
