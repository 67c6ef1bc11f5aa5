import { join } from "node:path";
import { Conversation } from "./conversation.mjs";
import { installOracle } from "./oracleInstall.mjs";

/**
 * @typedef {object} OracleOpening
 * @property {string} model Path of a GGUF file.
 * @property {number} [threads] Default 2.
 * @property {number} [contextSize] Default 512.
 * @property {number} [sequences] Side by side, each with such a context. Default 1.
 * @property {number} [batchSize] Default llama.cpp's, 512 or the context.
 * @property {"auto" | boolean} [flashAttention] Default llama.cpp's, "auto".
 * @property {boolean} [mmap] Default true.
 */

/**
 * All but `decode` and `memory` start from an empty context.
 * @typedef {{ kind: "greedy", tokens: number[], count: number, top?: number }
 *   | { kind: "tokenize", text: string }
 *   | { kind: "detokenize", tokens: number[] }
 *   | { kind: "parallel", prompts: number[][], count: number }
 *   | { kind: "prefill", tokens: number[] }
 *   | { kind: "decode", how: DecodeKind, steps: number }
 *   | { kind: "memory" }} OracleTask
 */

/**
 * How to decode behind a prefill: as a user of node-llama-cpp does, by single evaluations with the head and a greedy choice,
 * or by such without the head, which llama.cpp leaves out where nobody asks for logits. The same token then over and over.
 * @typedef {"generate" | "step" | "headless"} DecodeKind
 */

/** @typedef {{ tokens: number[], top: [token: number, logprob: number][][] }} GreedyResult Per generated token, the best `top`. */
/** @typedef {number} ParallelResult Tokens per second of all sequences together. */
/** @typedef {number} PrefillResult Milliseconds to the first token. */
/** @typedef {number[]} DecodeResult Milliseconds of each token. */
/** @typedef {number} MemoryResult The process's peak RSS in bytes, the mapped file included. */

/**
 * @typedef {object} OracleLoaded
 * @property {{ version: string, release: string, systemInfo: string, cpu: string, variant: string }} llama
 * @property {number} loadMs
 */

const script = join(import.meta.dirname, "oracle", "oracle.mjs");

/**
 * llama.cpp in a process of its own, which is asked an `OracleOpening` first, answered by `OracleLoaded`, and then tasks.
 * @param {AbortSignal} [signal] Kills the process.
 */
export function openOracle(signal) {
  installOracle();
  return new Conversation("llama.cpp", script, signal);
}

/**
 * Asks llama.cpp for the results of some tasks, in order.
 * @param {OracleOpening & { tasks: OracleTask[] }} request
 * @param {AbortSignal} [signal] Kills the process.
 * @returns {Promise<OracleLoaded & { results: any[] }>}
 */
export async function askOracle({ tasks, ...opening }, signal) {
  const oracle = openOracle(signal);
  try {
    const loaded = await oracle.ask(opening);
    const results = [];
    for (const task of tasks) results.push(await oracle.ask(task));
    return { ...loaded, results };
  } finally {
    await oracle.close();
  }
}
