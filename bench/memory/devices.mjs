import { join } from "node:path";
import { inGroups, replyOf, startIn } from "./contained.mjs";

/** @typedef {import("./contained.mjs").Charged} Charged */

/**
 * @typedef {object} Subject A model, and where its slices are kept.
 * @property {string} shape
 * @property {string} path
 * @property {string} cacheDir
 * @property {AbortSignal} signal
 *
 * @typedef {object} Run
 * @property {number} capBytes Of each device: of its control group, and what it is told by `--memory`.
 * @property {number} [leaderCapBytes] Of the first device, where it has another one.
 * @property {number} devices
 * @property {number} threads Of each device.
 * @property {number} readBps Most that each device's group may read from a disk per second; 0 for no limit.
 * @property {string} prompt
 * @property {number} tokens
 * @property {boolean} [sampled] Whether tokens are drawn as the model's probabilities say; else the likeliest ones are taken, of
 * which a random model soon repeats some.
 * @property {string} [wire] How partial sums travel; as by default if absent.
 *
 * @typedef {object} DeviceFigures As `stellium generate --json` tells them.
 * @property {number} peak_rss_bytes
 * @property {number} weight_bytes
 * @property {number} pinned_bytes
 * @property {number} window_bytes
 * @property {number} compute_ms
 * @property {number} disk_wait_ms
 * @property {number} [expert_slots] This and the next ones: of a mixture that is not in memory as a whole.
 * @property {number} [expert_hits]
 * @property {number} [expert_misses]
 * @property {number} [experts_read_ahead]
 * @property {number} [expert_bytes_read]
 * @property {number} [expert_bytes_per_token] Of decoded tokens.
 *
 * @typedef {object} Answer
 * @property {number[]} prompt_tokens
 * @property {number[]} tokens
 * @property {{ prompt_ms: number, predicted_n: number, predicted_ms: number }} timings
 * @property {DeviceFigures[]} devices
 */

const program = join(import.meta.dirname, "../../dist/cli/main.js");
const port = 7719;
const token = "memory-caps-in-control-groups";
const context = 256;

/**
 * Writes some tokens by the command line a user would type, each device in a control group of exactly its cap.
 * @param {Subject} subject
 * @param {Run} run
 * @returns {Promise<{ answer: Answer, charged: Charged }>}
 */
export function generate(subject, run) {
  const { capBytes: memory, leaderCapBytes = memory, readBps, devices } = run;
  return inGroups(devices, { memory, readBps }, async ([first, ...others]) => {
    first.limit({ memory: leaderCapBytes, readBps });
    const start = (/** @type {import("../lan/cgroups.mjs").Group} */ group, /** @type {string[]} */ args) =>
      startIn(group, [program, ...args], { signal: subject.signal, env: { STELLIUM_TOKEN: token } });
    const common = (/** @type {number} */ rank) => [
      ...["--memory", String(rank === 0 ? leaderCapBytes : memory), "-t", String(run.threads)],
      ...["--cache-dir", join(subject.cacheDir, String(rank)), "--cache-size", "1TB"],
    ];
    const workers = others.map((group, i) => start(group, ["join", `127.0.0.1:${port}`, ...common(i + 1)]));
    const shared = ["--workers", String(devices - 1), "--listen", `127.0.0.1:${port}`, "--wire", run.wire ?? "f16"];
    const cluster = devices === 1 ? [] : shared;
    const leader = start(first, [...asked(subject, run), ...common(0), ...cluster]);
    // A leader without its workers, and workers without their leader, would wait for others.
    for (const worker of workers) worker.outcome.then(leader.kill, () => {});
    const outcome = await leader.outcome;
    for (const worker of workers) worker.kill();
    await Promise.all(workers.map((worker) => worker.outcome));
    return { answer: replyOf(`${subject.shape} in ${memory / 1e6} MB`, outcome) };
  });
}

/** Milliseconds per token; the prompt's own step gives the first one. @param {Answer} answer */
export function tokenMsOf({ timings }) {
  return timings.predicted_ms / (timings.predicted_n - 1);
}

/** Bytes that all devices together read for a token; of a mixture that is streamed, those of missing experts. @param {Answer} answer */
export function streamedBytes({ devices }) {
  return devices.reduce(
    (sum, device) => sum + (device.expert_bytes_per_token ?? device.weight_bytes - device.pinned_bytes),
    0,
  );
}

/** @param {Subject} subject @param {Run} run */
function asked({ path }, { prompt, tokens, sampled }) {
  const drawn = ["--temp", "1", "--top-k", "0", "--top-p", "1", "--min-p", "0", "--seed", "3"];
  const text = ["-p", prompt, "-n", String(tokens), ...(sampled ? drawn : ["--temp", "0"]), "--ignore-eos"];
  return ["generate", "-m", path, "-c", String(context), ...text, "--json"];
}
