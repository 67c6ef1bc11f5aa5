import { StelliumError } from "../errors.ts";
import { type CompiledGrammar, createTokenConstraint } from "./grammar/constraint.ts";
import type { Logprobs } from "./logprobs.ts";
import { type ConstrainedSampler, createSampler, type SamplingParameters } from "./sampler.ts";
import type { Scheduler } from "./scheduler.ts";
import type { Task } from "./task.ts";
import { TextWriter } from "./textWriter.ts";
import { Clock, type Timings } from "./timings.ts";
import { type Tokenizer, tokensSpelled } from "./tokenizer.ts";
import { TokenQueue } from "./tokenQueue.ts";

export type { Timings } from "./timings.ts";

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
  readonly grammar?: CompiledGrammar | undefined;
  /** Control tokens, by their spelling, that are part of the text; others are left out of it. */
  readonly visible?: readonly string[] | undefined;
  /** Lists so many of the most likely tokens with each token, and its own probability; not at all if absent. */
  readonly logprobs?: number | undefined;
}

/** A token as it is written. `text` may be empty: parts of characters and of stop strings are held back. */
export interface GeneratedToken {
  readonly token: number;
  readonly text: string;
  /** Where the request asks for them. */
  readonly logprobs?: Logprobs;
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
  readonly scheduler: Scheduler;
  /** Tokens a sequence may have. */
  readonly context: number;
  readonly vocabularySize: number;
}

/**
 * Writes token after token; the value returned says how it ended. Any number may run at a time; a reader that falls
 * behind finds what was written meanwhile, and one that stops early ends it, as an aborted `signal` does.
 * Throws `QUEUE_FULL`, `CONTEXT_EXCEEDED`, `BAD_USAGE`, `GRAMMAR_INVALID`, `ABORTED`, and what the engine throws.
 */
export async function* generateTokens(
  model: GenerationModel,
  request: GenerationRequest,
  signal?: AbortSignal,
): AsyncGenerator<GeneratedToken, GenerationResult> {
  const generation = new Generation(model, request);
  const { scheduler } = model;
  const stop = () => scheduler.cancel(generation, String(signal?.reason));
  if (signal?.aborted) throw new StelliumError("ABORTED", { reason: String(signal.reason) });
  signal?.addEventListener("abort", stop);
  try {
    scheduler.submit(generation);
    return yield* generation.written.read();
  } finally {
    signal?.removeEventListener("abort", stop);
    scheduler.cancel(generation, "its reader stopped");
  }
}

/** Throws `BAD_USAGE` where a prompt has no tokens, or others than the model's. */
export function checkPrompt(prompt: ArrayLike<number>, vocabularySize: number): void {
  const known = (token: number) => Number.isInteger(token) && token >= 0 && token < vocabularySize;
  if (prompt.length === 0) throw new StelliumError("BAD_USAGE", { detail: "the prompt has no tokens" });
  const unknown = Array.prototype.find.call(prompt, (token: number) => !known(token)) as number | undefined;
  if (unknown === undefined) return;
  throw new StelliumError("BAD_USAGE", { detail: `the model has no token ${unknown}` });
}

/** Of a prompt, as it was given and as it grows; and of a grammar's program. */
const [bytesPerToken, bytesPerInstruction] = [12, 9];

/** A prompt, and what is written after it. */
class Generation implements Task {
  readonly wants = "logits";
  readonly written = new TokenQueue<GeneratedToken, GenerationResult>();
  readonly tokens: number[];
  readonly promptTokens: number;
  readonly rowLength: number;
  readonly #request: GenerationRequest;
  readonly #tokenizer: Tokenizer;
  readonly #most: number;
  readonly #sampler: ConstrainedSampler;
  readonly #writer: TextWriter;
  #clock = new Clock(0, 0);

  constructor(model: GenerationModel, request: GenerationRequest) {
    const { prompt, sampling, stop = [], grammar } = request;
    checkPrompt(prompt, model.vocabularySize);
    this.#request = request;
    this.#tokenizer = model.tokenizer;
    this.#most = tokenBudget(model, request);
    const visible = tokensSpelled(model.tokenizer, request.visible ?? []);
    this.#sampler = createSampler(sampling, grammar && createTokenConstraint(model.tokenizer, grammar, visible));
    this.#writer = new TextWriter(model.tokenizer, stop, visible);
    this.tokens = Array.from(prompt);
    this.promptTokens = prompt.length;
    this.rowLength = model.vocabularySize;
    for (const token of this.tokens) this.#sampler.accept(token);
  }

  get bytes(): number {
    const { program } = this.#request.grammar ?? {};
    const grammar = program === undefined ? 0 : program.operations.length * bytesPerInstruction;
    return this.promptTokens * bytesPerToken + grammar;
  }

  get generatedTokens(): number {
    return this.tokens.length - this.promptTokens;
  }

  admit(reused: number): void {
    this.#clock = new Clock(this.promptTokens, reused);
  }

  advance(logits: Float32Array): boolean | Promise<boolean> {
    if (this.generatedTokens === 0) this.#clock.promptDone();
    if (this.generatedTokens >= this.#most) return this.#finish();
    const token = this.#sampler.sample(logits);
    if (typeof token === "number") return this.#write(token, logits);
    const kept = this.#request.logprobs === undefined ? logits : logits.slice();
    return token.then((chosen) => this.#write(chosen, kept));
  }

  fail(error: unknown): void {
    this.written.fail(error);
  }

  /** Writes a token, which was chosen by `logits` where its probability is wanted. Returns whether more are to follow. */
  #write(token: number, logits: Float32Array): boolean {
    const { ignoreEos = false, logprobs: top } = this.#request;
    const logprobs = top === undefined ? {} : { logprobs: this.#sampler.logprobs(logits, token, top) };
    this.#sampler.accept(token);
    this.tokens.push(token);
    const ends = !ignoreEos && this.#tokenizer.isEog(token);
    const { text, ended } = this.#writer.push(token, ends, this.generatedTokens === this.#most);
    this.written.push({ token, text, ...logprobs });
    return !ended || this.#finish();
  }

  /** Returns that nothing follows. */
  #finish(): false {
    this.written.finish(this.#result());
    return false;
  }

  #result(): GenerationResult {
    const finishReason = this.#writer.stopped ? "stop" : "length";
    const tokens = this.tokens.slice(this.promptTokens);
    return { finishReason, tokens, seed: this.#sampler.seed, timings: this.#clock.timings(tokens.length) };
  }
}

/** How many tokens may be written. Throws `CONTEXT_EXCEEDED` where more were asked for than fit. */
function tokenBudget({ context }: GenerationModel, { prompt, maxTokens }: GenerationRequest): number {
  const room = context - prompt.length;
  const predict = maxTokens ?? Math.max(1, room);
  if (predict <= room) return predict;
  throw new StelliumError("CONTEXT_EXCEEDED", { prompt: prompt.length, predict, context });
}
