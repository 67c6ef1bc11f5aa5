import { Coordinator, type CoordinatorOptions } from "../cluster/coordinator.ts";
import { StelliumError } from "../errors.ts";
import type { GgufModel } from "../weights/gguf/model.ts";
import { readGguf } from "../weights/gguf/reader.ts";
import { type GeneratedToken, type GenerationRequest, type GenerationResult, generate } from "./generation.ts";
import { Sequence } from "./sequence.ts";
import { openTokenizer, type Tokenizer } from "./tokenizer.ts";

/** A model that text goes into and comes out of, ready to run. */
export class TextModel implements AsyncDisposable {
  readonly gguf: GgufModel;
  readonly tokenizer: Tokenizer;
  readonly coordinator: Coordinator;
  readonly #sequence: Sequence;

  /**
   * Opens a GGUF file and loads its weights. Throws `FILE_UNREADABLE`, `GGUF_INVALID`, `MODEL_UNSUPPORTED` and
   * `OUT_OF_MEMORY` before anything is loaded, and `ABORTED`.
   */
  static async open(path: string, options: CoordinatorOptions = {}): Promise<TextModel> {
    const gguf = await readGguf(path);
    const coordinator = await Coordinator.start(gguf, options);
    try {
      return new TextModel(gguf, openTokenizer(gguf.files[0]!), coordinator);
    } catch (error) {
      await coordinator[Symbol.asyncDispose]();
      throw error;
    }
  }

  private constructor(gguf: GgufModel, tokenizer: Tokenizer, coordinator: Coordinator) {
    checkVocabulary(gguf, tokenizer);
    this.gguf = gguf;
    this.tokenizer = tokenizer;
    this.coordinator = coordinator;
    this.#sequence = new Sequence(coordinator);
  }

  /** Tokens a sequence may have. */
  get context(): number {
    return this.coordinator.context;
  }

  /**
   * The tokens of a prompt, as the model wants them. An empty prompt is the beginning-of-sequence token alone.
   * `template` says that control tokens are spelled out in the text, as chat templates do.
   */
  encodePrompt(text: string, { template = false } = {}): Int32Array {
    const { bos } = this.tokenizer;
    const tokens = this.tokenizer.encode(text, { addSpecial: true, parseSpecial: template });
    // Templates that spell the beginning of sequence and vocabularies that add it would give two.
    if (template && tokens.length > 1 && tokens[0] === bos && tokens[1] === bos) return tokens.subarray(1);
    if (tokens.length > 0) return tokens;
    if (bos >= 0) return Int32Array.of(bos);
    throw new StelliumError("BAD_USAGE", { detail: "the prompt is empty, and this model has no token to begin with" });
  }

  /** Writes after a prompt; see `generate`. One at a time. */
  generate(request: GenerationRequest, signal?: AbortSignal): AsyncGenerator<GeneratedToken, GenerationResult> {
    const { tokenizer, context } = this;
    return generate({ tokenizer, context, sequence: this.#sequence }, request, signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.coordinator[Symbol.asyncDispose]();
    this.tokenizer.close();
  }
}

/** Token ids index the embedding's rows. */
function checkVocabulary({ files, tensors }: GgufModel, tokenizer: Tokenizer): void {
  const rows = tensors.get("token_embd.weight")?.shape[1] ?? 0;
  if (tokenizer.size <= rows) return;
  const reason = `its vocabulary has ${tokenizer.size} tokens and its embedding ${rows} rows`;
  throw new StelliumError("MODEL_UNSUPPORTED", { model: files[0]!, reason });
}
