import { spawn } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";

/**
 * Runs a module in a process of its own, which takes a JSON request on stdin and gives a JSON reply on stdout.
 * @param {string} what Its name, for an error.
 * @param {string} script
 * @param {unknown} request
 * @param {AbortSignal} [signal] Kills it.
 * @returns {Promise<any>}
 */
export async function askChild(what, script, request, signal) {
  signal?.throwIfAborted();
  const kill = signal ? { signal, killSignal: /** @type {const} */ ("SIGKILL") } : {};
  const child = spawn(process.execPath, [script], { stdio: ["pipe", "pipe", "inherit"], ...kill });
  // A child that dies early closes its stdin: its exit code tells more.
  child.stdin.on("error", () => {});
  child.stdin.end(JSON.stringify(request));
  const [reply, [code]] = await Promise.all([text(child.stdout), once(child, "exit")]).catch((error) => {
    throw signal?.aborted ? signal.reason : error;
  });
  if (code !== 0) throw new Error(`${what} failed: exit ${code}`);
  return JSON.parse(reply);
}
