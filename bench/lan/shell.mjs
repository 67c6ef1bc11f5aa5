import { spawnSync } from "node:child_process";

/**
 * Runs a command to its end, and gives what it wrote; a failure is an error with what it complained of.
 * @param {string} command
 * @param {string[]} args
 * @param {{ input?: string, tolerant?: boolean }} [options]
 */
export function run(command, args, { input = "", tolerant = false } = {}) {
  const { status, error, stdout, stderr } = spawnSync(command, args, { input, encoding: "utf8" });
  if (status === 0 || tolerant) return stdout ?? "";
  throw new Error(`${command} ${args.join(" ")}: ${error?.message ?? stderr.trim()}`);
}

/**
 * Waits without giving way to anything else: cleaning up must work while the process exits.
 * @param {number} milliseconds
 */
export function pause(milliseconds) {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}
