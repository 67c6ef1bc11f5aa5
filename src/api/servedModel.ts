import type { ChatTemplate } from "../serving/chatTemplate.ts";
import type { PromptEncoder } from "../serving/encodeChat.ts";
import type { GeneratedToken, GenerationRequest, GenerationResult } from "../serving/generation.ts";
import type { AnswerParser } from "./answer.ts";

/** What one of the sequences that are computed at the same time is doing. */
export interface SlotState {
  readonly id: number;
  readonly state: "idle" | "prefill" | "decode";
  /** Of the prompt, those in `cachedTokens` included. */
  readonly promptTokens: number;
  /** Prompt tokens that the KV cache held already. */
  readonly cachedTokens: number;
  readonly generatedTokens: number;
  /** Tokens the slot has room for. */
  readonly context: number;
}

/** Sums since the start. */
export interface ServedCounters {
  /** Prompt tokens that passed through the blocks. */
  readonly promptTokens: number;
  /** Prompt tokens that the KV cache held already. */
  readonly cachedTokens: number;
  readonly promptMs: number;
  readonly predictedTokens: number;
  readonly predictedMs: number;
}

/** What clients are told of a model. */
export interface ModelFacts {
  /** Name of its first file, without folders. */
  readonly file: string;
  readonly vocabularySize: number;
  readonly trainedContext: number;
  readonly embeddingLength: number;
  readonly parameters: number;
  /** Of its tensors. */
  readonly bytes: number;
}

/** How conversations become prompts, and texts become answers. */
export interface ChatFormat {
  readonly template: ChatTemplate;
  /** The template's Jinja source. */
  readonly source: string;
  /** Texts that end an answer, beside end-of-generation tokens. */
  readonly stop: readonly string[];
  /** Reads one answer. */
  readonly openAnswer: (asked: AskedAnswer) => AnswerParser;
}

/** What decides how an answer is to be read. */
export interface AskedAnswer {
  /** Whether the model was told of functions. */
  readonly tools: boolean;
  /** The last characters of the prompt: it may have begun the reasoning. */
  readonly promptEnd: string;
}

/** A model that many requests use at a time: what the API needs of the parts below it. */
export interface ServedModel extends PromptEncoder {
  readonly facts: ModelFacts;
  readonly chat: ChatFormat;
  /** Tokens a sequence may have. */
  readonly context: number;
  /** Requests that wait for a slot. */
  readonly queued: number;
  readonly counters: ServedCounters;
  slots(): readonly SlotState[];
  /**
   * Writes token after token; any number of requests at a time. Throws `QUEUE_FULL`, `CONTEXT_EXCEEDED`, `ABORTED`, and
   * what the engine throws. A consumer that stops early stops it.
   */
  generate(request: GenerationRequest, signal?: AbortSignal): AsyncGenerator<GeneratedToken, GenerationResult>;
  /**
   * Mean of the hidden states behind the last norm, one for each of `tokens`: (embedding length). Throws as `generate`
   * does.
   */
  embed(tokens: ArrayLike<number>, signal?: AbortSignal): Promise<Float32Array>;
}
