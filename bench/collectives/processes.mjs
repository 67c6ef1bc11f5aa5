import { once } from "node:events";
import { text } from "node:stream/consumers";

/** @typedef {import("node:child_process").ChildProcess} ChildProcess */

/**
 * Gives each process a JSON request on stdin and takes its JSON reply from stdout. Where one fails, all are killed.
 * @param {ChildProcess[]} children
 * @param {unknown[]} requests
 * @param {AbortSignal} signal
 * @returns {Promise<any[]>}
 */
export async function askAll(children, requests, signal) {
  const kill = () => {
    for (const child of children) child.kill("SIGKILL");
  };
  signal.addEventListener("abort", kill);
  try {
    return await Promise.all(children.map((child, rank) => ask(child, rank, requests[rank])));
  } catch (error) {
    throw signal.aborted ? signal.reason : error;
  } finally {
    signal.removeEventListener("abort", kill);
    kill();
  }
}

/** @param {ChildProcess} child @param {number} rank @param {unknown} request */
async function ask(child, rank, request) {
  const input = /** @type {import("node:stream").Writable} */ (child.stdin);
  const output = /** @type {import("node:stream").Readable} */ (child.stdout);
  // A process that dies early closes its stdin: its exit code tells more.
  input.on("error", () => {});
  input.end(JSON.stringify(request));
  const [reply, [code]] = await Promise.all([text(output), once(child, "exit")]);
  if (code !== 0) throw new Error(`rank ${rank} failed: exit ${code}`);
  return JSON.parse(reply);
}
