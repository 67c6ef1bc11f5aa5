import { join } from "node:path";
import { dropCache } from "../single/dropCache.mjs";
import { median } from "../single/statistics.mjs";
import { inGroups, replyOf, startIn } from "./contained.mjs";
import { generate, tokenMsOf } from "./devices.mjs";

/** @typedef {import("./devices.mjs").Subject} Subject */
/** @typedef {import("./limit.mjs").Effort} Effort */

/**
 * @typedef {object} Sample One process that started with nothing of the model in the system's cache.
 * @property {number} firstMs From its start to the first token.
 * @property {number} tokenMs Of the tokens after that.
 * @property {number} peakBytes
 *
 * @typedef {"killed" | "stalled"} Failure By the system for its memory, or by this benchmark for its slowness.
 * @typedef {{ firstMs: number, tokenMs: number, peakBytes: number } | Failure} Figures Medians.
 * @typedef {{ capBytes: number, ours: Figures, mapped: Figures, converted: Figures }} Comparison
 */

const script = join(import.meta.dirname, "llamaMmap.mjs");
const context = 256;
/** So long llama.cpp may take for all tokens: in a group that is almost large enough, it may not get anywhere. */
export const patienceMs = 180_000;

/**
 * Decodes under a cap with Stellium and with llama.cpp over the mapped file, in turns.
 * @param {Subject} subject
 * @param {number} capBytes
 * @param {Effort} effort
 * @returns {Promise<Comparison>}
 */
export async function compareWithLlama(subject, capBytes, effort) {
  /** @type {Record<"ours" | "mapped" | "converted", (Sample | Failure)[]>} */
  const samples = { ours: [], mapped: [], converted: [] };
  // Cuts the slice.
  await ours(subject, capBytes, { ...effort, tokens: 2 });
  for (let round = 0; round < effort.rounds; round++) {
    samples.ours.push(await ours(subject, capBytes, effort));
    // What failed once is not tried again.
    if (!failureOf(samples.mapped)) samples.mapped.push(await theirs(subject, capBytes, effort, false));
    if (!failureOf(samples.converted)) samples.converted.push(await theirs(subject, capBytes, effort, true));
  }
  const { mapped, converted } = samples;
  return { capBytes, ours: middle(samples.ours), mapped: middle(mapped), converted: middle(converted) };
}

/** @param {Subject} subject @param {number} capBytes @param {Effort} effort @returns {Promise<Sample>} */
async function ours(subject, capBytes, { threads, tokens }) {
  const started = performance.now();
  const { answer, charged } = await generate(subject, {
    ...{ capBytes, devices: 1, threads, readBps: 0, prompt: "", tokens },
  });
  const firstMs = performance.now() - started - answer.timings.predicted_ms;
  return { firstMs, tokenMs: tokenMsOf(answer), peakBytes: charged.peakBytes };
}

/**
 * @param {Subject} subject
 * @param {number} memory
 * @param {Effort} effort
 * @param {boolean} converted
 * @returns {Promise<Sample | Failure>}
 */
async function theirs(subject, memory, { threads, tokens: steps }, converted) {
  const tokens = Array.from({ length: steps }, (_, step) => 3 + step);
  const decoded = await decodeMapped(subject, memory, { threads, context, prompt: [], tokens, converted });
  if (typeof decoded === "string") return decoded;
  const { loadMs, stepMs, peakBytes } = decoded;
  const [first = Number.NaN, ...others] = stepMs;
  return { firstMs: loadMs + first, tokenMs: mean(others), peakBytes };
}

/**
 * Has llama.cpp decode over the mapped file in a control group, with nothing of the file in the system's cache at first.
 * @param {Pick<Subject, "path" | "signal">} subject
 * @param {number} memory
 * @param {Omit<import("./llamaMmap.mjs").LlamaRequest, "model">} request
 * @returns {Promise<(import("./llamaMmap.mjs").LlamaReply & { peakBytes: number }) | Failure>}
 */
export async function decodeMapped({ path: model, signal }, memory, request) {
  // What others have in the cache would not count against this group.
  await dropCache(model);
  const input = JSON.stringify({ model, ...request });
  const patience = AbortSignal.timeout(patienceMs);
  const { outcome, charged } = await inGroups(1, { memory }, async ([group]) => {
    const child = startIn(group, [script], { signal: AbortSignal.any([signal, patience]), input });
    return { outcome: await child.outcome.catch((error) => unlessPatienceEnded(error)) };
  });
  if (charged.oomKills > 0) return "killed";
  if (outcome === undefined) return "stalled";
  return { ...replyOf("llama.cpp", outcome), peakBytes: charged.peakBytes };
}

/** @param {unknown} error */
function unlessPatienceEnded(error) {
  if (error instanceof DOMException && error.name === "TimeoutError") return undefined;
  throw error;
}

/** @param {(Sample | Failure)[]} samples @returns {Figures} */
function middle(samples) {
  const failure = failureOf(samples);
  if (failure !== undefined) return failure;
  const lasting = samples.filter((sample) => typeof sample !== "string");
  const of = (/** @type {keyof Sample} */ key) => median(lasting.map((sample) => sample[key]));
  return { firstMs: of("firstMs"), tokenMs: of("tokenMs"), peakBytes: of("peakBytes") };
}

/** @param {(Sample | Failure)[]} samples */
function failureOf(samples) {
  return samples.find((sample) => typeof sample === "string");
}

/** @param {number[]} values */
export function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
