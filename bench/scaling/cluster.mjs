import { once } from "node:events";
import { join } from "node:path";
import { json } from "node:stream/consumers";
import { coreOf } from "../lan/cores.mjs";

/** @typedef {Awaited<ReturnType<typeof import("../lan/lan.mjs").startLan>>} Lan */
/** @typedef {import("node:child_process").ChildProcess} ChildProcess */

/**
 * @typedef {object} DeviceFigures As `stellium generate --json` tells them.
 * @property {number} weight_bytes
 * @property {number} compute_ms
 * @property {number} collective_ms
 * @property {number} collective_count
 *
 * @typedef {object} Answer
 * @property {number[]} tokens
 * @property {{ prompt_ms: number, predicted_n: number, predicted_ms: number, predicted_per_second: number }} timings
 * @property {DeviceFigures[]} devices
 */

const program = join(import.meta.dirname, "../../dist/cli/main.js");
const port = 7710;
const token = "scaling-on-an-emulated-lan";

/**
 * Has the first `ranks` devices of a LAN decode together, each with one thread on a core of its own where there are as
 * many, by the command line a user would type. `cpu` is what each may use of its core, 0 for all of it.
 * @param {Lan} lan
 * @param {number} ranks
 * @param {{ model: string, folder: string, tokens: number, cpu: number, signal: AbortSignal }} options
 * @returns {Promise<Answer>}
 */
export async function decode(lan, ranks, { model, folder, tokens, cpu, signal }) {
  const [first] = /** @type {[Lan["devices"][number]]} */ (/** @type {unknown} */ (lan.devices));
  const where = `${first.address}:${port}`;
  const common = ["-t", "1", "--cache-dir"];
  const own = [...common, join(folder, "0")];
  const cluster = ranks === 1 ? [] : ["--workers", String(ranks - 1), "--listen", where];
  const asked = ["-m", model, "-p", "", "-n", String(tokens), "-c", "256", "--temp", "0", "--ignore-eos", "--json"];
  const start = (/** @type {number} */ index, /** @type {string[]} */ args) =>
    lan.devices[index]?.spawn(process.execPath, [program, ...args], {
      ...{ cpu, cores: coreOf(index), env: { STELLIUM_TOKEN: token } },
      stdio: ["ignore", index === 0 ? "pipe" : "ignore", "inherit"],
    });
  const leader = /** @type {ChildProcess} */ (start(0, ["generate", ...asked, ...own, ...cluster]));
  const workers = Array.from({ length: ranks - 1 }, (_, i) =>
    start(i + 1, ["join", where, ...common, join(folder, String(i + 1))]),
  );
  return await answerOf(leader, workers, signal);
}

/**
 * The leader's answer; the workers, who would wait for the next leader, are stopped.
 * @param {ChildProcess} leader
 * @param {(ChildProcess | undefined)[]} workers
 * @param {AbortSignal} signal
 * @returns {Promise<Answer>}
 */
async function answerOf(leader, workers, signal) {
  const all = [leader, ...workers];
  const kill = () => all.forEach((child) => void child?.kill("SIGKILL"));
  signal.addEventListener("abort", kill);
  try {
    const ended = once(leader, "exit");
    const answer = await json(/** @type {import("node:stream").Readable} */ (leader.stdout));
    const [code] = await ended;
    if (code !== 0) throw new Error(`the first device failed: exit ${code}`);
    return /** @type {Answer} */ (answer);
  } catch (error) {
    throw signal.aborted ? signal.reason : error;
  } finally {
    signal.removeEventListener("abort", kill);
    kill();
  }
}
