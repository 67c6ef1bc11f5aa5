import { z } from "zod";
import { StelliumError } from "../errors.ts";
import { type AnswerFormat, beforeContent, visibleMarkers } from "../serving/answer/format.ts";
import { type AnswerDelta, type AnswerParser, createAnswerParser } from "../serving/answer/parser.ts";
import type { GeneratedToken, GenerationResult } from "../serving/generation.ts";
import type { GrammarSource } from "../serving/grammar/compile.ts";
import { defaultSampling, type SamplingParameters } from "../serving/samplingParameters.ts";
import type { TextModel } from "../serving/textModel.ts";
import { fields } from "./checkOptions.ts";

/** How a text is written; what is absent of how tokens are chosen is as `stellium run` has it. */
export interface WritingOptions extends Partial<Readonly<SamplingParameters>> {
  /** Most tokens to write; as many as the context holds if absent. */
  readonly maxTokens?: number | undefined;
  /** Texts that end it; they are not part of it. */
  readonly stop?: readonly string[] | undefined;
  /** A grammar in llama.cpp's GBNF that the text follows. */
  readonly grammar?: string | undefined;
  /** A JSON schema that the text, then JSON, keeps to. */
  readonly jsonSchema?: unknown;
  /** Ends it: what is being iterated then throws `ABORTED`. */
  readonly signal?: AbortSignal | undefined;
}

const samplingNames = Object.keys({ ...defaultSampling, seed: 0 }) as (keyof SamplingParameters)[];

/** Names of how tokens are chosen; the sampler checks their values. */
export const samplingFields = {
  ...Object.fromEntries(samplingNames.map((name) => [name, z.number().optional()])),
  logitBias: z.instanceof(Map).optional(),
};

/** Checks of `WritingOptions`. */
export const writingFields = {
  ...samplingFields,
  maxTokens: fields.count(1, 2 ** 31 - 1),
  stop: z.array(z.string().min(1).max(10_000)).max(1000).optional(),
  grammar: z.string().max(10_000_000).optional(),
  jsonSchema: z.unknown().optional(),
  signal: fields.signal,
};

/** The tokens that a text is to continue. */
export type PromptOf = (textModel: TextModel) => Promise<Int32Array>;

/**
 * Writes after a prompt; of an answer in channels, its content only. Throws `GRAMMAR_INVALID`, `SCHEMA_UNSUPPORTED`, `BAD_USAGE`, what `prompt` throws, and what
 * `TextModel.generate` throws.
 */
export async function* continueText(
  textModel: TextModel,
  prompt: PromptOf,
  options: WritingOptions,
  stop: readonly string[],
  format: AnswerFormat = {},
): AsyncGenerator<GeneratedToken, GenerationResult> {
  const source = grammarOf(options, format);
  const request = {
    grammar: source && (await textModel.compileGrammar(source)),
    prompt: await prompt(textModel),
    maxTokens: options.maxTokens,
    sampling: samplingFrom(options),
    stop: [...stop, ...(options.stop ?? [])],
    visible: visibleMarkers(format),
  };
  const tokens = textModel.generate(request, options.signal);
  return yield* format.channels ? contentOf(tokens, createAnswerParser(format)) : tokens;
}

/** The content of an answer, without its reasoning. */
async function* contentOf(
  tokens: AsyncGenerator<GeneratedToken, GenerationResult>,
  parser: AnswerParser,
): AsyncGenerator<GeneratedToken, GenerationResult> {
  const text = (deltas: readonly AnswerDelta[]) =>
    deltas.map((delta) => (delta.kind === "content" ? delta.text : "")).join("");
  let token = -1;
  try {
    for (;;) {
      const { done, value } = await tokens.next();
      if (!done) token = value.token;
      const shown = text(done ? parser.end() : parser.push(value.text));
      if (shown !== "") yield { token, text: shown };
      if (done) return value;
    }
  } finally {
    await tokens.return(undefined as never);
  }
}

/** How tokens are chosen, with what is absent as `stellium run` has it. */
export function samplingFrom(given: Partial<Readonly<SamplingParameters>>): SamplingParameters {
  const chosen = samplingNames.filter((name) => given[name] !== undefined).map((name) => [name, given[name]]);
  return { ...defaultSampling, ...Object.fromEntries(chosen) };
}

function grammarOf(
  { grammar: gbnf, jsonSchema: schema }: WritingOptions,
  format: AnswerFormat,
): GrammarSource | undefined {
  const reasoning = beforeContent(format);
  if (gbnf !== undefined && schema !== undefined) {
    throw new StelliumError("BAD_USAGE", { detail: "grammar and jsonSchema were both given; give one" });
  }
  if (schema !== undefined) return { kind: "schema", schema, reasoning };
  return gbnf === undefined ? undefined : { kind: "gbnf", gbnf, reasoning };
}

/** How a text ended. */
export type WritingResult = GenerationResult;

/** Where a text comes from, and what is to be done when it has ended. */
export type TextSource = () => AsyncGenerator<GeneratedToken, GenerationResult>;

/**
 * A text while it is written. Iterate it for its pieces, as they come, or await `text()` for all of it. It begins when
 * it is iterated, once; who stops iterating ends it.
 */
export class Writing implements AsyncIterable<string> {
  readonly #source: TextSource;
  #begun = false;
  #result: WritingResult | undefined;

  constructor(source: TextSource) {
    this.#source = source;
  }

  /** Its tokens, why it ended, and how long it took; undefined until it has ended. */
  get result(): WritingResult | undefined {
    return this.#result;
  }

  /** All of it, when it has ended. Throws what iterating throws. */
  async text(): Promise<string> {
    let text = "";
    for await (const piece of this) text += piece;
    return text;
  }

  /** The pieces as they are written. Throws what ended the text before its end. */
  async *[Symbol.asyncIterator](): AsyncGenerator<string, void, undefined> {
    if (this.#begun) throw new StelliumError("BAD_USAGE", { detail: "a text is iterated once; ask for it again" });
    this.#begun = true;
    const tokens = this.#source();
    try {
      for (;;) {
        const { done, value } = await tokens.next();
        if (done) {
          this.#result = value;
          return;
        }
        if (value.text !== "") yield value.text;
      }
    } finally {
      await tokens.return(undefined as never);
    }
  }
}
