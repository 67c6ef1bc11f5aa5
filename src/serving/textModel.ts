import { CacheLimit } from "../cluster/cacheLimit.ts";
import { Coordinator, type CoordinatorOptions } from "../cluster/coordinator.ts";
import { storedCellBytes } from "../cluster/engineOptions.ts";
import { StelliumError } from "../errors.ts";
import { paddedCells } from "../model/cells.ts";
import { chosenFactors } from "../model/ropeFactors.ts";
import type { GgufModel } from "../weights/gguf/model.ts";
import { type LocalHead, localHead } from "../weights/localHead.ts";
import { ModelSource, type RemoteOptions } from "../weights/modelSource.ts";
import { embed } from "./embedText.ts";
import { type GeneratedToken, type GenerationRequest, type GenerationResult, generateTokens } from "./generation.ts";
import type { GrammarSource } from "./grammar/compile.ts";
import type { CompiledGrammar } from "./grammar/constraint.ts";
import { KeptPrefixes } from "./keptPrefixes.ts";
import { compileGrammar, Sandbox } from "./sandbox/sandbox.ts";
import { Scheduler, type SchedulerCounters, type SlotState } from "./scheduler.ts";
import { openTokenizer, type Tokenizer } from "./tokenizer.ts";

/** How a model is to be opened and run, and how many requests it takes; everything has a default. */
export interface TextModelOptions extends CoordinatorOptions {
  /** Requests that may wait while as many as `parallel` says are answered; 512 if absent. */
  readonly queue?: number | undefined;
  /** A file that keeps prefixes, with the keys and values of their tokens, for the next run; none if absent. One device only. */
  readonly prefixFile?: string | undefined;
  /** What is sent along to an address of a remote model: see `AttemptOptions`. */
  readonly headers?: RemoteOptions["headers"];
  /** Told what was stored of a remote model so that text can be made of it: bytes, and where. */
  readonly onStored?: (bytes: number, directory: string) => void;
}

const defaultQueue = 512;

interface Requests {
  readonly queue?: number | undefined;
  readonly kept: KeptPrefixes | undefined;
}

/** A model that text goes into and comes out of, ready to run. */
export class TextModel implements AsyncDisposable {
  readonly gguf: GgufModel;
  readonly tokenizer: Tokenizer;
  readonly coordinator: Coordinator;
  /** Where templates and grammars are worked on. */
  readonly sandbox = new Sandbox();
  readonly #scheduler: Scheduler;
  readonly #source: ModelSource;
  readonly #head: LocalHead | undefined;

  /**
   * Opens a GGUF model, by path or URL, and loads its weights. Throws `FILE_UNREADABLE`, `URL_UNREADABLE`,
   * `GGUF_INVALID`, `MODEL_UNSUPPORTED` and `OUT_OF_MEMORY` before anything is loaded, and `ABORTED`.
   */
  static async open(name: string, options: TextModelOptions = {}): Promise<TextModel> {
    checkPrefixFile(options);
    const source = await ModelSource.open(name, { signal: options.signal, headers: options.headers });
    let coordinator: Coordinator | undefined;
    let head: LocalHead | undefined;
    try {
      if (source.remote) head = await storedHead(source, options);
      const { files } = head ?? source.model;
      coordinator = await Coordinator.start(source, { ...options, files });
      const kept = await openKept(source, coordinator, options);
      return new TextModel(source, head, openTokenizer(files[0]!), coordinator, { ...options, kept });
    } catch (error) {
      await coordinator?.[Symbol.asyncDispose]();
      await head?.hold[Symbol.asyncDispose]();
      await source[Symbol.asyncDispose]();
      throw error;
    }
  }

  private constructor(
    source: ModelSource,
    head: LocalHead | undefined,
    tokenizer: Tokenizer,
    coordinator: Coordinator,
    requests: Requests,
  ) {
    checkVocabulary(source.model, tokenizer);
    this.#head = head;
    this.gguf = source.model;
    this.#source = source;
    this.tokenizer = tokenizer;
    this.coordinator = coordinator;
    this.#scheduler = new Scheduler(coordinator, requests.queue ?? defaultQueue, requests.kept);
  }

  /** Tokens a sequence may have. */
  get context(): number {
    return this.coordinator.context;
  }

  /**
   * The tokens of a prompt, as the model wants them. An empty prompt is the beginning-of-sequence token alone.
   * `template` says that control tokens are spelled out in the text, as chat templates do. Throws `BAD_USAGE` for an empty
   * prompt where there is no such token, and what `encodeAside` throws.
   */
  async encodePrompt(text: string, { template = false } = {}): Promise<Int32Array> {
    const { bos } = this.tokenizer;
    const tokens = await this.tokenizer.encodeAside(text, { addSpecial: true, parseSpecial: template });
    // Templates that spell the beginning of sequence and vocabularies that add it would give two.
    if (template && tokens.length > 1 && tokens[0] === bos && tokens[1] === bos) return tokens.subarray(1);
    if (tokens.length > 0) return tokens;
    if (bos >= 0) return Int32Array.of(bos);
    throw new StelliumError("BAD_USAGE", { detail: "the prompt is empty, and this model has no token to begin with" });
  }

  /**
   * Makes ready what an answer has to be; undefined where nothing is to be held to. Throws `GRAMMAR_INVALID`,
   * `SCHEMA_UNSUPPORTED`, `BAD_USAGE`.
   */
  compileGrammar(source: GrammarSource): Promise<CompiledGrammar | undefined> {
    return compileGrammar(this.sandbox, source);
  }

  /** What each slot, which has room for one sequence, is doing. */
  slots(): readonly SlotState[] {
    return this.#scheduler.slots;
  }

  /** Requests that wait for a slot. */
  get queued(): number {
    return this.#scheduler.queued;
  }

  /** What happened since the model was opened. */
  get counters(): Readonly<SchedulerCounters> {
    return this.#scheduler.counters;
  }

  /**
   * Writes after a prompt; see `generate`. Any number at a time: as many as there are slots side by side, and others in
   * the order they came. At temperature 0 an answer is the same whatever else runs, but for near-ties: kernels for
   * several tokens at once round otherwise than those for one.
   */
  generate(request: GenerationRequest, signal?: AbortSignal): AsyncGenerator<GeneratedToken, GenerationResult> {
    return generateTokens(this.#requestModel, request, signal);
  }

  /** The embedding of a text, of as many values as the model's hidden states; see `embed`. Any number at a time. */
  embed(tokens: ArrayLike<number>, signal?: AbortSignal): Promise<Float32Array> {
    return embed(this.#requestModel, tokens, signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.sandbox[Symbol.asyncDispose]();
    await this.#scheduler[Symbol.asyncDispose]();
    await this.coordinator[Symbol.asyncDispose]();
    await this.#source[Symbol.asyncDispose]();
    await this.#head?.hold[Symbol.asyncDispose]();
    this.tokenizer.close();
  }

  get #requestModel() {
    const { tokenizer, context } = this;
    const { vocabularySize, embeddingLength, pooling } = this.coordinator.description.hyperparameters;
    return { tokenizer, context, vocabularySize, embeddingLength, pooling, scheduler: this.#scheduler };
  }
}

/** Throws `BAD_USAGE` where prefixes could not be kept. */
function checkPrefixFile({ prefixFile, prefixBytes = 0, cluster }: TextModelOptions): void {
  if (prefixFile === undefined) return;
  const refuse = (detail: string) => new StelliumError("BAD_USAGE", { detail });
  if (prefixBytes === 0) throw refuse("prefixes need memory before they can be kept: set --prefix-cache, too");
  if (cluster)
    throw refuse("workers would keep what they know of your texts on their disks: one device alone keeps prefixes");
}

async function openKept(source: ModelSource, coordinator: Coordinator, { prefixFile }: TextModelOptions) {
  if (prefixFile === undefined) return undefined;
  const { kvType, context } = coordinator.engine.options;
  const cellBytes = storedCellBytes(coordinator.description, kvType);
  const ropeFactors = chosenFactors(coordinator.description, paddedCells(context));
  const identity = { model: await source.hash(), kvType, cellBytes, ropeFactors };
  return await KeptPrefixes.open(prefixFile, identity, coordinator);
}

async function storedHead(
  source: ModelSource,
  { cacheDir, cacheSize, onStored }: TextModelOptions,
): Promise<LocalHead> {
  const head = await localHead(source, new CacheLimit(cacheDir, cacheSize), cacheDir);
  source.forgetHeaders();
  if (head.stored > 0) onStored?.(head.stored, head.directory);
  return head;
}

/** Token ids index the embedding's rows. */
function checkVocabulary({ files, tensors }: GgufModel, tokenizer: Tokenizer): void {
  const rows = tensors.get("token_embd.weight")?.shape[1] ?? 0;
  if (tokenizer.size <= rows) return;
  const reason = `its vocabulary has ${tokenizer.size} tokens and its embedding ${rows} rows`;
  throw new StelliumError("MODEL_UNSUPPORTED", { model: files[0]!, reason });
}
