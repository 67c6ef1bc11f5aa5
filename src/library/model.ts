import { basename } from "node:path";
import { z } from "zod";
import { StelliumError } from "../errors.ts";
import type { PullProgress } from "../models/pull.ts";
import { resolveModel } from "../models/resolveModel.ts";
import { type AnswerFormat, plainFormat } from "../serving/answer/format.ts";
import type { ChatMessage } from "../serving/chatTemplate.ts";
import { encodeChat } from "../serving/encodeChat.ts";
import { type ModelTemplate, modelTemplate } from "../serving/modelTemplate.ts";
import { sandboxBytes } from "../serving/sandbox/sandbox.ts";
import { TextModel, type TextModelOptions } from "../serving/textModel.ts";
import { checkOptions, fields } from "./checkOptions.ts";
import { type ModelOptions, modelFields, textModelOptions } from "./modelOptions.ts";
import { continueText, type PromptOf, Writing, type WritingOptions, writingFields } from "./writing.ts";

const name = z.string().min(1).max(10_000);
const loadSchema = z.strictObject({ ...modelFields, signal: fields.signal });
const writingSchema = z.strictObject(writingFields);
const messagesSchema = z.array(z.looseObject({ role: z.string().max(100), content: z.string() })).min(1);

/** How a model is loaded. */
export interface LoadOptions extends ModelOptions {
  /** Stops loading. What is loaded is freed by `close`. */
  readonly signal?: AbortSignal | undefined;
}

/** A message of a conversation. */
export interface Message {
  /** Such as `system`, `user` and `assistant`; what there is, is up to the model. */
  readonly role: string;
  readonly content: string;
}

/**
 * Loads a model, by its path, URL or name (such as `user/repo:Q4_K_M`, which is fetched where it is not on this device),
 * and where `cluster` says so waits for the devices that share it. `close` it when it is no longer needed.
 *
 * Throws `StelliumError`s: `BAD_USAGE`, `FILE_UNREADABLE`, `GGUF_INVALID`, `MODEL_UNSUPPORTED`, `OUT_OF_MEMORY` before
 * anything is loaded; those of `pull`; `ABORTED`.
 *
 * @example
 * const model = await loadModel("Qwen/Qwen3-4B-GGUF:Q4_K_M");
 * for await (const piece of model.chat([{ role: "user", content: "Hello" }])) process.stdout.write(piece);
 * await model.close();
 */
export async function loadModel(model: string, options: LoadOptions = {}): Promise<Model> {
  checkOptions("model", name, model);
  checkOptions("options", loadSchema, options);
  const textModel = await loadTextModel(model, options, { hostBytes: sandboxBytes });
  try {
    return new Model(textModel, await libraryTemplate(textModel, options.chatTemplate));
  } catch (error) {
    await textModel[Symbol.asyncDispose]();
    throw error;
  }
}

/** The template of the options, else the model's own. Throws `TEMPLATE_FAILED`. */
export function libraryTemplate(textModel: TextModel, source: string | undefined): Promise<ModelTemplate> {
  return modelTemplate(
    textModel,
    source === undefined ? undefined : { source, name: "the chat template that was given" },
  );
}

/** Finds and loads a model, with options that have been checked; a server has some of its own. */
export async function loadTextModel(
  model: string,
  options: LoadOptions,
  own: Pick<TextModelOptions, "hostBytes" | "status"> = {},
): Promise<TextModel> {
  const { signal, offline, onProgress } = options;
  const tell = ({ bytes, total }: PullProgress) => onProgress?.({ phase: "fetching", bytes, total });
  const path = await resolveModel(model, { offline, signal, onProgress: tell });
  return await TextModel.open(path, { ...textModelOptions(options, signal), ...own });
}

/** A model that is loaded. Any number of texts may be asked for at a time: `parallel` of them are written side by side. */
export class Model implements AsyncDisposable {
  readonly #textModel: TextModel;
  readonly #template: ModelTemplate;
  #freed: Promise<void> | undefined;

  /** @internal */
  constructor(textModel: TextModel, template: ModelTemplate) {
    this.#textModel = textModel;
    this.#template = template;
  }

  /** Name of its file, or of the first of them. */
  get file(): string {
    return basename(this.#textModel.gguf.files[0]!);
  }

  /** Tokens that a prompt and what is written after it may have together. */
  get context(): number {
    return this.#textModel.context;
  }

  /** Continues a text. An empty one is the beginning of any. Throws `BAD_USAGE`; iterating throws the rest. */
  generate(prompt: string, options: WritingOptions = {}): Writing {
    checkOptions("prompt", z.string(), prompt);
    return this.#write((textModel) => textModel.encodePrompt(prompt), options, []);
  }

  /**
   * Answers a conversation, by the model's chat template. Names of control tokens in messages are text, and end nothing.
   * Throws `BAD_USAGE`; iterating throws the rest.
   */
  chat(messages: readonly Message[], options: WritingOptions = {}): Writing {
    checkOptions("messages", messagesSchema, messages);
    const { template, source, stop } = this.#template;
    const copies = messages.map((message): ChatMessage & Message => ({ ...message }));
    return this.#write((textModel) => encodeChat(textModel, template, copies), options, stop, plainFormat(source));
  }

  /**
   * The embedding of a text, of length 1: its tokens' last hidden states, pooled as the model says (`pooling_type`), or
   * the mean if it says nothing.
   */
  async embed(text: string, { signal }: { signal?: AbortSignal | undefined } = {}): Promise<Float32Array> {
    checkOptions("text", z.string(), text);
    const textModel = this.#opened();
    return await textModel.embed(await textModel.encodePrompt(text), signal);
  }

  /** The tokens of a text. */
  tokenize(text: string): Int32Array {
    checkOptions("text", z.string(), text);
    return this.#opened().tokenizer.encode(text, { addSpecial: false, parseSpecial: false });
  }

  /** Ends what is being written, lets devices go, and frees everything. */
  async close(): Promise<void> {
    this.#freed ??= this.#textModel[Symbol.asyncDispose]();
    await this.#freed;
  }

  /** See `close`; for `await using`, which TypeScript and Node 24 have. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #write(encode: PromptOf, options: WritingOptions, stop: readonly string[], format?: AnswerFormat): Writing {
    checkOptions("options", writingSchema, options);
    return new Writing(() => continueText(this.#opened(), encode, options, stop, format));
  }

  /** What is freed must not be touched. */
  #opened(): TextModel {
    if (this.#freed === undefined) return this.#textModel;
    throw new StelliumError("ABORTED", { reason: "the model is closed" });
  }
}
