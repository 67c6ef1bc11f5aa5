import { join } from "node:path";
import { askChild } from "./child.mjs";
import { installOracle } from "./oracleInstall.mjs";

/**
 * @typedef {object} OracleRequest
 * @property {string} model Path of a GGUF file.
 * @property {number} [threads] Default 2.
 * @property {number} [contextSize] Default 512.
 * @property {number} [sequences] Side by side, each with such a context. Default 1.
 * @property {number} [batchSize] Default llama.cpp's, 512 or the context.
 * @property {"auto" | boolean} [flashAttention] Default llama.cpp's, "auto".
 * @property {boolean} [mmap] Default true.
 * @property {OracleTask[]} tasks Run in order, each from an empty context.
 */

/**
 * @typedef {{ kind: "greedy", tokens: number[], count: number, top?: number }
 *   | { kind: "tokenize", text: string }
 *   | { kind: "detokenize", tokens: number[] }
 *   | { kind: "time", tokens: number[], steps: number, repeat?: number }
 *   | { kind: "parallel", prompts: number[][], count: number }
 *   | { kind: "generate", tokens: number[], count: number, repeat?: number }} OracleTask
 */

/** @typedef {{ tokens: number[], top: [token: number, logprob: number][][] }} GreedyResult Per generated token, the best `top`. */
/**
 * @typedef {{ prefill_ms: number[], headless_ms: number[][], step_ms: number[][] }} TimeResult One entry per repetition. Prefill
 * and `headless_ms` leave out the output head; `step_ms` has it.
 */
/** @typedef {number} ParallelResult Tokens per second of all sequences together. */
/** @typedef {{ tokens: number[], first_ms: number, token_ms: number[] }[]} GenerateResult One entry per repetition. */

/**
 * @typedef {object} OracleReply
 * @property {{ version: string, release: string, systemInfo: string, cpu: string, variant: string }} llama
 * @property {number} loadMs
 * @property {number} peakRssBytes
 * @property {any[]} results One per task, in order.
 */

/**
 * Asks llama.cpp, in a process of its own.
 * @param {OracleRequest} request
 * @param {AbortSignal} [signal] Kills the process.
 * @returns {Promise<OracleReply>}
 */
export async function askOracle(request, signal) {
  installOracle();
  const script = join(import.meta.dirname, "oracle", "oracle.mjs");
  return askChild(`llama.cpp on ${request.model}`, script, request, signal);
}
