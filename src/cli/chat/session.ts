import { StelliumError } from "../../errors.ts";
import { type AnswerFormat, visibleMarkers } from "../../serving/answer/format.ts";
import { type AnswerDelta, createAnswerParser } from "../../serving/answer/parser.ts";
import type { GenerationResult, Timings } from "../../serving/generation.ts";
import type { SamplingParameters } from "../../serving/samplingParameters.ts";
import type { TextModel } from "../../serving/textModel.ts";
import { follow, TextOutput } from "../textOutput.ts";
import type { Conversation } from "./conversation.ts";

/** How answers are written. */
export interface AnswerOptions {
  readonly sampling: SamplingParameters;
  /** Most tokens of an answer; as many as the context holds if absent. */
  readonly predict: number | undefined;
  readonly stop: readonly string[];
  readonly format: AnswerFormat;
  /** Tells the speed after each answer. */
  readonly verbose: boolean;
}

/** A conversation with a model that answers on stdout. */
export class Session {
  readonly textModel: TextModel;
  readonly conversation: Conversation;
  readonly #options: AnswerOptions;
  /** Of the last answer that was written to its end. */
  last: Timings | undefined;

  constructor(textModel: TextModel, conversation: Conversation, options: AnswerOptions) {
    this.textModel = textModel;
    this.conversation = conversation;
    this.#options = options;
  }

  /**
   * Answers `text`, and returns whether to the end: an abort of `signal` stops the answer, and what was said of it stays
   * in the conversation.
   * Throws `CONTEXT_EXCEEDED`, `TEMPLATE_FAILED`, and what the engine throws.
   */
  async answer(text: string, signal: AbortSignal): Promise<boolean> {
    const { tokens, dropped } = await this.conversation.ask(text);
    if (dropped > 0)
      notice(`The context is full: the oldest ${dropped === 1 ? "turn was" : `${dropped} turns were`} dropped.`);
    const output = new TextOutput();
    const shown = new ShownAnswer(output);
    try {
      const result = await this.#write(tokens, shown, signal);
      this.#finish(result, output);
      return true;
    } catch (error) {
      if (!(error instanceof StelliumError && error.code === "ABORTED")) throw error;
      output.endLine({ always: true });
      return false;
    } finally {
      this.conversation.answer(shown.content);
    }
  }

  async #write(prompt: Int32Array, shown: ShownAnswer, signal: AbortSignal): Promise<GenerationResult> {
    const { sampling, predict = Infinity, stop, format } = this.#options;
    const maxTokens = Math.min(predict, this.textModel.context - prompt.length);
    const request = { prompt, maxTokens, sampling, stop, visible: visibleMarkers(format) };
    const parser = createAnswerParser(format);
    const result = await follow(this.textModel.generate(request, signal), (piece) => shown.add(parser.push(piece)));
    shown.add(parser.end());
    return result;
  }

  #finish({ timings, finishReason }: GenerationResult, output: TextOutput): void {
    this.last = timings;
    output.endLine({ always: true });
    const full = timings.prompt_n + timings.cache_n + timings.predicted_n >= this.textModel.context;
    if (finishReason === "length" && full) notice("The answer ends here because the context is full.");
    if (this.#options.verbose) notice(describeTimings(timings));
  }
}

/** Shows an answer: its content after its reasoning, if there is such. */
class ShownAnswer {
  readonly #output: TextOutput;
  #last: AnswerDelta["kind"] | undefined;
  /** The answer without its reasoning. */
  content = "";

  constructor(output: TextOutput) {
    this.#output = output;
  }

  add(deltas: readonly AnswerDelta[]): void {
    for (const delta of deltas) {
      if (delta.kind === "toolCall") continue;
      if (this.#last !== undefined && delta.kind !== this.#last) this.#output.write("\n\n");
      this.#last = delta.kind;
      this.#output.write(delta.text);
      if (delta.kind === "content") this.content += delta.text;
    }
  }
}

/** Such as `prompt 12 tokens (40 more were cached) in 8 ms, 1500/s; answer 100 tokens in 2000 ms, 50/s`. */
export function describeTimings(timings: Timings): string {
  const part = (what: string, count: number, cached: string, ms: number, rate: number) =>
    `${what} ${count} tokens${cached} in ${Math.round(ms)} ms, ${rate < 100 ? rate.toPrecision(3) : Math.round(rate)}/s`;
  const { prompt_n, prompt_ms, prompt_per_second, cache_n, predicted_n, predicted_ms, predicted_per_second } = timings;
  const cached = cache_n === 0 ? "" : ` (${cache_n} more were cached)`;
  return [
    part("prompt", prompt_n, cached, prompt_ms, prompt_per_second),
    part("answer", predicted_n, "", predicted_ms, predicted_per_second),
  ].join("; ");
}

/** Says something to the person, beside the conversation. */
export function notice(text: string): void {
  process.stderr.write(`${text}\n`);
}
