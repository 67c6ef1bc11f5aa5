import type { AnswerDelta, AnswerParser } from "../serving/answer/parser.ts";
import type { GenerationRequest, GenerationResult } from "../serving/generation.ts";
import type { Api } from "./context.ts";
import { type ContentLogprob, contentLogprob } from "./logprobs.ts";
import type { ServedModel } from "./servedModel.ts";

/** What a token adds to an answer. */
export interface AnswerPiece {
  readonly deltas: readonly AnswerDelta[];
  readonly logprob: ContentLogprob | undefined;
}

/** What an answer is written with. */
export interface AnswerWriting {
  readonly api: Api;
  readonly model: ServedModel;
  readonly request: GenerationRequest;
  readonly parser: AnswerParser;
  readonly signal: AbortSignal;
  readonly onWritten: (written: AnswerPiece) => void;
}

/** Generates an answer, handing on what each token adds. Returns how it ended. */
export async function write(writing: AnswerWriting): Promise<GenerationResult> {
  const { api, model, request, parser, signal, onWritten } = writing;
  const started = performance.now();
  const generation = model.generate(request, signal);
  for (let first = true; ; first = false) {
    const { done, value } = await generation.next();
    if (done) {
      onWritten({ deltas: parser.end(), logprob: undefined });
      return value;
    }
    if (first) api.metrics.firstToken((performance.now() - started) / 1000);
    onWritten({ deltas: parser.push(value.text), logprob: contentLogprob(model.tokenizer, value) });
  }
}
