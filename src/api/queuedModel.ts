import { basename } from "node:path";
import { StelliumError } from "../errors.ts";
import type { GeneratedToken, GenerationRequest, GenerationResult, Timings } from "../serving/generation.ts";
import type { TextModel } from "../serving/textModel.ts";
import type { ChatFormat, ModelFacts, ServedCounters, ServedModel, SlotState } from "./servedModel.ts";
import { Turns } from "./turns.ts";

/** A `TextModel` that computes one request after the other. */
export class QueuedModel implements ServedModel {
  readonly facts: ModelFacts;
  readonly chat: ChatFormat;
  readonly tokenizer: TextModel["tokenizer"];
  readonly #textModel: TextModel;
  readonly #turns: Turns;
  #counters: ServedCounters = { promptTokens: 0, cachedTokens: 0, promptMs: 0, predictedTokens: 0, predictedMs: 0 };
  #slot: SlotState;

  constructor(textModel: TextModel, chat: ChatFormat, mostQueued: number) {
    this.facts = factsOf(textModel);
    this.chat = chat;
    this.tokenizer = textModel.tokenizer;
    this.#textModel = textModel;
    this.#turns = new Turns(mostQueued);
    this.#slot = this.#idle();
  }

  get context(): number {
    return this.#textModel.context;
  }

  get queued(): number {
    return this.#turns.waiting;
  }

  get counters(): ServedCounters {
    return this.#counters;
  }

  encodePrompt(text: string, options?: { template?: boolean }): Int32Array {
    return this.#textModel.encodePrompt(text, options);
  }

  slots(): readonly SlotState[] {
    return [this.#slot];
  }

  async *generate(request: GenerationRequest, signal?: AbortSignal): AsyncGenerator<GeneratedToken, GenerationResult> {
    using _turn = await this.#turns.take(signal);
    this.#slot = { ...this.#idle(), state: "prefill", promptTokens: request.prompt.length };
    try {
      return yield* this.#counted(this.#textModel.generate(request, signal));
    } finally {
      this.#slot = this.#idle();
    }
  }

  /** Throws `REQUEST_UNSUPPORTED`: today's engine gives logits only. */
  async embed(): Promise<Float32Array> {
    throw new StelliumError("REQUEST_UNSUPPORTED", { param: "input", reason: "the engine gives no hidden states" });
  }

  async *#counted(
    generation: AsyncGenerator<GeneratedToken, GenerationResult>,
  ): AsyncGenerator<GeneratedToken, GenerationResult> {
    try {
      for (let generatedTokens = 1; ; generatedTokens++) {
        const { done, value } = await generation.next();
        if (done) {
          this.#count(value.timings);
          return value;
        }
        this.#slot = { ...this.#slot, state: "decode", generatedTokens };
        yield value;
      }
    } finally {
      await generation.return(undefined as never);
    }
  }

  #count({ prompt_n, cache_n, prompt_ms, predicted_n, predicted_ms }: Timings): void {
    const { promptTokens, cachedTokens, promptMs, predictedTokens, predictedMs } = this.#counters;
    this.#counters = {
      promptTokens: promptTokens + prompt_n,
      cachedTokens: cachedTokens + cache_n,
      promptMs: promptMs + prompt_ms,
      predictedTokens: predictedTokens + predicted_n,
      predictedMs: predictedMs + predicted_ms,
    };
  }

  #idle(): SlotState {
    const { context } = this.#textModel;
    return { id: 0, state: "idle", promptTokens: 0, cachedTokens: 0, generatedTokens: 0, context };
  }
}

function factsOf({ gguf, tokenizer, coordinator }: TextModel): ModelFacts {
  const { contextLength, embeddingLength } = coordinator.engine.description.hyperparameters;
  const tensors = [...gguf.tensors.values()];
  return {
    file: basename(gguf.files[0]!),
    vocabularySize: tokenizer.size,
    trainedContext: contextLength,
    embeddingLength,
    parameters: tensors.reduce((sum, { shape }) => sum + shape.reduce((product, length) => product * length, 1), 0),
    bytes: tensors.reduce((sum, { bytes }) => sum + bytes, 0),
  };
}
