import { basename } from "node:path";
import type { ChatTemplate } from "../serving/chatTemplate.ts";
import type { TextModel } from "../serving/textModel.ts";

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

/** How conversations become prompts, and what answers end by. */
export interface ChatFormat {
  readonly template: ChatTemplate;
  /** The template's Jinja source: it tells how answers have calls and reasoning. */
  readonly source: string;
  /** Texts that end an answer, beside end-of-generation tokens. */
  readonly stop: readonly string[];
}

/** A model that many requests use at a time: what the API needs of the parts below it. */
export interface ServedModel
  extends Pick<
    TextModel,
    "tokenizer" | "context" | "queued" | "counters" | "encodePrompt" | "compileGrammar" | "slots" | "generate" | "embed"
  > {
  readonly facts: ModelFacts;
  readonly chat: ChatFormat;
}

/** A `TextModel` as it is served. */
export class LoadedModel implements ServedModel {
  readonly facts: ModelFacts;
  readonly chat: ChatFormat;
  readonly tokenizer: TextModel["tokenizer"];
  readonly encodePrompt: TextModel["encodePrompt"];
  readonly compileGrammar: TextModel["compileGrammar"];
  readonly slots: TextModel["slots"];
  readonly generate: TextModel["generate"];
  readonly embed: TextModel["embed"];
  readonly #textModel: TextModel;

  constructor(textModel: TextModel, chat: ChatFormat) {
    this.#textModel = textModel;
    this.facts = factsOf(textModel);
    this.chat = chat;
    this.tokenizer = textModel.tokenizer;
    this.encodePrompt = textModel.encodePrompt.bind(textModel);
    this.compileGrammar = textModel.compileGrammar.bind(textModel);
    this.slots = textModel.slots.bind(textModel);
    this.generate = textModel.generate.bind(textModel);
    this.embed = textModel.embed.bind(textModel);
  }

  get context(): number {
    return this.#textModel.context;
  }

  get queued(): number {
    return this.#textModel.queued;
  }

  get counters(): TextModel["counters"] {
    return this.#textModel.counters;
  }
}

function factsOf({ gguf, tokenizer, coordinator }: TextModel): ModelFacts {
  const { contextLength, embeddingLength } = coordinator.description.hyperparameters;
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
