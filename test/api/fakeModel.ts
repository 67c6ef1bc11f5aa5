import type { ServedModel } from "#stellium/api/servedModel";
import { StelliumError } from "#stellium/errors";
import { fallbackChatTemplate } from "#stellium/serving/chatTemplate";
import type { GeneratedToken, GenerationRequest, GenerationResult } from "#stellium/serving/generation";
import { compileSource, type GrammarSource } from "#stellium/serving/grammar/compile";
import { renderTemplate } from "#stellium/serving/jinja/render";
import type { SlotState } from "#stellium/serving/scheduler";
import type { Tokenizer } from "#stellium/serving/tokenizer";

const [bos, eos] = [256, 257];

/** ChatML, with calls as Hermes and Qwen write them, and thoughts before the answer. */
export const callingTemplate = `${fallbackChatTemplate}{# <tool_call> <think> #}`;

/** An answer with everything, in pieces. */
export const callingPieces = [
  "<think>Hm</think>",
  '<tool_call>{"name": "sum", "arguments": {"a":',
  "1}}</tool_call>",
  '<tool_call>{"name": "now", "arguments": {}}</tool_call>',
];

/** A function, as clients offer it. */
export function tool(name: string, more: object = {}) {
  return { type: "function" as const, function: { name, parameters: { type: "object", properties: {} }, ...more } };
}

/** One token for every byte. */
const tokenizer: Tokenizer = {
  size: 258,
  bos,
  eos,
  eot: -1,
  addBos: false,
  encode: (text) => Int32Array.from(Buffer.from(text)),
  encodeAside: async (text) => Int32Array.from(Buffer.from(text)),
  decodeAside: async (tokens) => tokenizer.decode(tokens),
  decode: (tokens) => Buffer.from(Array.from(tokens, checked).filter((token) => token < 256)).toString(),
  pieceBytes: (token) => (checked(token) < 256 ? Uint8Array.of(token) : new Uint8Array(0)),
  isEog: (token) => token === eos,
  isControl: (token) => token >= 256,
  text: (token) => (token < 256 ? String.fromCharCode(token) : ["<s>", "</s>"][token - 256]!),
  close: () => {},
  [Symbol.dispose]: () => {},
};

function checked(token: number): number {
  if (token >= 0 && token < 258) return token;
  throw new StelliumError("BAD_USAGE", { detail: `token ${token} is not in the vocabulary of 258 tokens` });
}

/** What a fake model is to do. */
export interface FakeOptions {
  /** The pieces it writes, one a token. */
  pieces?: readonly string[];
  /** Thrown behind the pieces. */
  failure?: Error;
  /** Awaited before the first piece. */
  prefill?: Promise<void>;
  /** Awaited before every piece. */
  beforePiece?: () => Promise<void> | undefined;
  context?: number;
  template?: string;
}

/** A model that writes what it is told to, and remembers what it was asked. */
export class FakeModel implements ServedModel {
  readonly facts = {
    file: "fake.gguf",
    vocabularySize: 258,
    trainedContext: 4096,
    embeddingLength: 4,
    parameters: 1000,
    bytes: 2000,
  };
  readonly chat: ServedModel["chat"];
  readonly tokenizer = tokenizer;
  readonly context: number;
  queued = 0;
  readonly counters = {
    ...{ promptTokens: 5, cachedTokens: 3, generatedTokens: 7, steps: 9, prefillSeconds: 0.1, decodeSeconds: 0.2 },
    requests: { completed: 2, cancelled: 1, failed: 0, refused: 0 },
  };
  readonly requests: GenerationRequest[] = [];
  /** Reasons of the generations that were stopped. */
  readonly stopped: unknown[] = [];
  /** How many run. */
  running = 0;
  readonly #options: FakeOptions;

  constructor(options: FakeOptions = {}) {
    this.#options = options;
    this.context = options.context ?? 1000;
    const { template: source = fallbackChatTemplate } = options;
    const template = { name: "the chat template", source, bosToken: "", eosToken: "" };
    this.chat = { template: { render: async (input) => renderTemplate({ template, input }) }, source, stop: [] };
  }

  /** The prompt of the last request. */
  get prompt(): string {
    return tokenizer.decode(this.requests.at(-1)!.prompt);
  }

  async encodePrompt(text: string): Promise<Int32Array> {
    const tokens = tokenizer.encode(text, { addSpecial: true, parseSpecial: false });
    return tokens.length > 0 ? tokens : Int32Array.of(bos);
  }

  async compileGrammar(source: GrammarSource) {
    return compileSource(source);
  }

  slots(): SlotState[] {
    const state = this.running > 0 ? "decode" : "idle";
    const { context } = this;
    return [{ id: 0, state, promptTokens: 0, cachedTokens: 0, generatedTokens: 0, context }];
  }

  async *generate(request: GenerationRequest, signal?: AbortSignal): AsyncGenerator<GeneratedToken, GenerationResult> {
    const { pieces = ["Hel", "lo"], failure, prefill, beforePiece } = this.#options;
    this.requests.push(request);
    this.running++;
    try {
      await raced(prefill, signal);
      const written = pieces.slice(0, request.maxTokens);
      for (const text of written) {
        await raced(beforePiece?.(), signal);
        yield { token: text.charCodeAt(0) & 0x7f, text, ...this.#logprobs(request) };
      }
      if (failure) throw failure;
      return resultOf(request, written.length, written.length < pieces.length ? "length" : "stop");
    } catch (error) {
      if (signal?.aborted) this.stopped.push(signal.reason);
      throw error;
    } finally {
      this.running--;
    }
  }

  async embed(): Promise<Float32Array> {
    return Float32Array.of(0.6, 0.8, 0, 0);
  }

  #logprobs({ logprobs: count }: GenerationRequest) {
    if (count === undefined) return {};
    const top = [65, 66, 67].slice(0, count).map((token, rank) => ({ token, logprob: -1 - rank }));
    return { logprobs: { token: 65, logprob: -1, top } };
  }
}

function resultOf({ prompt }: GenerationRequest, count: number, finishReason: "stop" | "length"): GenerationResult {
  const rates = { prompt_ms: 10, prompt_per_second: 100, predicted_ms: 20, predicted_per_second: 50 };
  const timings = { prompt_n: prompt.length - 1, cache_n: 1, predicted_n: count, ...rates };
  return { finishReason, tokens: new Array<number>(count).fill(65), seed: 1, timings };
}

/** As the engine does it: an abort ends what is awaited. */
async function raced(awaited: Promise<void> | undefined, signal: AbortSignal | undefined): Promise<void> {
  if (awaited === undefined) return signal?.throwIfAborted();
  await new Promise<void>((resolve, reject) => {
    const stop = () => reject(new StelliumError("ABORTED", { reason: String(signal?.reason) }));
    if (signal?.aborted) stop();
    signal?.addEventListener("abort", stop);
    awaited.then(resolve, reject);
  });
}
