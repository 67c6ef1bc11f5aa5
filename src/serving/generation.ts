import { StelliumError } from "../errors.ts";
import { createTokenConstraint, type GrammarRequest } from "./grammar/constraint.ts";
import { createSampler, type SamplingParameters } from "./sampler.ts";
import type { Sequence } from "./sequence.ts";
import { createStopScanner } from "./stopStrings.ts";
import { createTextStream } from "./textStream.ts";
import { type Tokenizer, tokensSpelled } from "./tokenizer.ts";

/** What is to be written after which prompt. */
export interface GenerationRequest {
  /** Token ids, at least one. */
  readonly prompt: ArrayLike<number>;
  /** Most tokens to write; as many as the context holds if absent. */
  readonly maxTokens?: number | undefined;
  readonly sampling: SamplingParameters;
  /** Texts that end it; they are not part of the result. */
  readonly stop?: readonly string[];
  /** Goes on after end-of-generation tokens. */
  readonly ignoreEos?: boolean;
  /** What the text has to be. */
  readonly grammar?: GrammarRequest | undefined;
  /** Control tokens, by their spelling, that are part of the text; others are left out of it. */
  readonly visible?: readonly string[] | undefined;
}

/** A token as it is written. `text` may be empty: parts of characters and of stop strings are held back. */
export interface GeneratedToken {
  readonly token: number;
  readonly text: string;
}

/** Counts and times of a generation, named as llama.cpp's server does. */
export interface Timings {
  /** Prompt tokens that passed through the blocks; those the KV cache held already do not count. */
  prompt_n: number;
  prompt_ms: number;
  prompt_per_second: number;
  predicted_n: number;
  predicted_ms: number;
  predicted_per_second: number;
  /** Prompt tokens that the KV cache held already. */
  cache_n: number;
}

/** How a generation ended. */
export interface GenerationResult {
  /** `stop`: an end-of-generation token or a stop string; `length`: `maxTokens` or the context's end. */
  readonly finishReason: "stop" | "length";
  readonly tokens: readonly number[];
  /** The seed that was used. */
  readonly seed: number;
  readonly timings: Timings;
}

/** What generations need of a model. */
export interface GenerationModel {
  readonly tokenizer: Tokenizer;
  readonly sequence: Sequence;
  /** Tokens a sequence may have. */
  readonly context: number;
}

/**
 * Writes token after token; the value returned says how it ended. A consumer that stops early, or an aborted `signal`,
 * stops the step under way. Throws `CONTEXT_EXCEEDED`, `GRAMMAR_INVALID`, `ABORTED`, and what the engine throws.
 */
export async function* generate(
  model: GenerationModel,
  request: GenerationRequest,
  signal?: AbortSignal,
): AsyncGenerator<GeneratedToken, GenerationResult> {
  const { prompt, ignoreEos = false } = request;
  const most = tokenBudget(model, request);
  const visible = tokensSpelled(model.tokenizer, request.visible ?? []);
  const grammar = request.grammar && createTokenConstraint(model.tokenizer, request.grammar, visible);
  const sampler = createSampler(request.sampling, grammar);
  const writer = createWriter(model.tokenizer, request.stop ?? [], visible);
  const clock = startClock();
  const stopper = new AbortController();
  const stopped = signal ? AbortSignal.any([signal, stopper.signal]) : stopper.signal;
  const tokens: number[] = [];
  let pending: Promise<Float32Array> | undefined;
  try {
    const { logits: first, reused } = await model.sequence.extendTo(prompt, stopped);
    for (let i = 0; i < prompt.length; i++) sampler.accept(prompt[i]!);
    clock.promptDone(prompt.length - reused, reused);
    for (let logits = first; tokens.length < most; logits = await pending) {
      const token = sampler.sample(logits);
      sampler.accept(token);
      tokens.push(token);
      const written = writer.push(token, !ignoreEos && model.tokenizer.isEog(token), tokens.length === most);
      // The next step runs while the consumer deals with this token.
      pending = written.ended ? undefined : handled(model.sequence.append(token, stopped));
      yield { token, text: written.text };
      if (pending === undefined) break;
    }
    const finishReason = writer.stopped ? "stop" : "length";
    return { finishReason, tokens, seed: sampler.seed, timings: clock.timings(tokens.length) };
  } finally {
    stopper.abort("its reader stopped");
    await pending?.catch(() => {});
  }
}

/** How many tokens may be written. Throws `CONTEXT_EXCEEDED` where more were asked for than fit. */
function tokenBudget({ context }: GenerationModel, { prompt, maxTokens }: GenerationRequest): number {
  const room = context - prompt.length;
  const predict = maxTokens ?? Math.max(1, room);
  if (predict <= room) return predict;
  throw new StelliumError("CONTEXT_EXCEEDED", { prompt: prompt.length, predict, context });
}

/** Turns tokens into text that may be shown, and knows when to end. */
function createWriter(tokenizer: Tokenizer, stop: readonly string[], visible: ReadonlySet<number>) {
  const stream = createTextStream();
  const scanner = createStopScanner(stop);
  let stopped = false;
  return {
    /** Whether an end-of-generation token or a stop string came. */
    get stopped() {
      return stopped;
    },
    push(token: number, endOfGeneration: boolean, last: boolean): { text: string; ended: boolean } {
      const bytes = tokenizer.pieceBytes(token, { special: visible.has(token) });
      const scanned = scanner.push(stream.push(endOfGeneration ? new Uint8Array(0) : bytes));
      stopped = endOfGeneration || scanned.stop !== undefined;
      if (!stopped && !last) return { text: scanned.text, ended: false };
      const rest = scanned.stop === undefined ? scanner.push(stream.flush()).text + scanner.flush() : "";
      return { text: scanned.text + rest, ended: true };
    },
  };
}

/** Keeps a rejection that nobody waits for yet from being taken for one that nobody handles. */
function handled<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {});
  return promise;
}

function startClock() {
  const started = performance.now();
  let prompted = started;
  let prompt = { prompt_n: 0, cache_n: 0 };
  return {
    promptDone(prompt_n: number, cache_n: number) {
      prompted = performance.now();
      prompt = { prompt_n, cache_n };
    },
    timings(predicted_n: number): Timings {
      const [prompt_ms, predicted_ms] = [prompted - started, performance.now() - prompted];
      const prompt_per_second = rate(prompt.prompt_n, prompt_ms);
      const predicted_per_second = rate(predicted_n, predicted_ms);
      return { ...prompt, prompt_ms, prompt_per_second, predicted_n, predicted_ms, predicted_per_second };
    },
  };
}

function rate(count: number, ms: number): number {
  return ms > 0 ? (count * 1000) / ms : 0;
}
