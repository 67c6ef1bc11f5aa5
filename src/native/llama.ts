import { promisify } from "node:util";
import { StelliumError } from "../errors.ts";
import koffi, { type LibraryHandle } from "./koffi.ts";
import { nativeLibraries } from "./libraries.ts";
import { logNative, withNativeLog } from "./nativeLog.ts";

/** `llama_vocab *` of a model whose vocabulary alone was loaded. */
export type Vocab = bigint;

/** The vocabulary part of libllama (include/llama.h of llama.cpp v0.5.0). Token ids are not checked: a wrong one aborts. */
export interface LlamaVocabApi {
  /**
   * Loads the vocabulary of a GGUF and none of its weights.
   *
   * @throws StelliumError `MODEL_UNSUPPORTED` with libllama's reason
   */
  load(path: string): { vocab: Vocab; free(): void };
  tokenCount(vocab: Vocab): number;
  /** `enum llama_vocab_type`: 1 is SentencePiece with byte fallback. */
  type(vocab: Vocab): number;
  /** Returns how many ids were written, or minus the room needed. */
  tokenize(
    vocab: Vocab,
    text: Uint8Array,
    length: number,
    ids: Int32Array,
    room: number,
    addSpecial: boolean,
    parseSpecial: boolean,
  ): number;
  /** The same on a thread of libuv's pool. Keep what it is given until it resolves. It cannot be stopped. */
  tokenizeAside(...call: Parameters<LlamaVocabApi["tokenize"]>): Promise<number>;
  /** Returns how many bytes were written, or minus the room needed. */
  detokenize(
    vocab: Vocab,
    ids: Int32Array,
    count: number,
    text: Uint8Array,
    room: number,
    removeSpecial: boolean,
    unparseSpecial: boolean,
  ): number;
  /** The same on a thread of libuv's pool, as `tokenizeAside`. */
  detokenizeAside(...call: Parameters<LlamaVocabApi["detokenize"]>): Promise<number>;
  /** Returns how many bytes were written, or minus the room needed; `leftStrip` is the number of spaces to skip. */
  tokenToPiece(
    vocab: Vocab,
    token: number,
    piece: Uint8Array,
    room: number,
    leftStrip: number,
    special: boolean,
  ): number;
  text(vocab: Vocab, token: number): string;
  isEog(vocab: Vocab, token: number): boolean;
  isControl(vocab: Vocab, token: number): boolean;
  /** Bits of `enum llama_token_attr`, see `spelledAttributes`. */
  attributes(vocab: Vocab, token: number): number;
  /** Beginning of sequence; -1 where there is none, as in the two below. */
  bos(vocab: Vocab): number;
  eos(vocab: Vocab): number;
  eot(vocab: Vocab): number;
  addBos(vocab: Vocab): boolean;
}

/** Of `enum llama_token_attr`: what a text may spell to mean the token itself. */
export const spelledAttributes = { unknown: 1, control: 8, userDefined: 16 } as const;

const modelParameterFields = {
  devices: "void *",
  tensor_buft_overrides: "void *",
  n_gpu_layers: "int32_t",
  split_mode: "int32_t",
  load_mode: "int32_t",
  lazy_mode: "int32_t",
  main_gpu: "int32_t",
  tensor_split: "void *",
  progress_callback: "void *",
  progress_callback_user_data: "void *",
  kv_overrides: "void *",
  vocab_only: "uint8_t",
  check_tensors: "uint8_t",
  use_extra_bufts: "uint8_t",
  no_host: "uint8_t",
  no_alloc: "uint8_t",
  load_mtp: "uint8_t",
} as const;

type StructType = ReturnType<typeof koffi.struct>;
type ModelParameters = Record<keyof typeof modelParameterFields, number | bigint | null>;

/** What `llama_model_default_params()` returns, in the order of the fields; 0 for a null pointer. */
const expectedDefaults = "0 0 -1 1 -1 1 0 0 0 0 0 0 0 1 0 0 0";

/** Types for koffi: the struct, and one with room after it, for a release in which it is longer. */
function modelParameterTypes() {
  const exact = koffi.struct(modelParameterFields);
  return { exact, roomy: koffi.struct({ parameters: exact, rest: koffi.array("uint8_t", 256) }) };
}

let api: LlamaVocabApi | undefined;

/**
 * Binds libllama at the first call.
 *
 * @throws StelliumError `PLATFORM_UNSUPPORTED`, `NATIVE_MISSING`, or `NATIVE_INCOMPATIBLE` if the struct passed by value differs
 */
export function llamaVocab(): LlamaVocabApi {
  api ??= bind(nativeLibraries().llama(), nativeLibraries().directory);
  return api;
}

function bind(llama: LibraryHandle, directory: string): LlamaVocabApi {
  logNative(llama, "llama_log_set");
  const { exact, roomy } = modelParameterTypes();
  const tokenize = llama.func("int32_t llama_tokenize(void *, void *, int32_t, void *, int32_t, bool, bool)");
  const detokenize = llama.func("int32_t llama_detokenize(void *, void *, int32_t, void *, int32_t, bool, bool)");
  return {
    load: bindLoad(llama, exact, checkedDefaults(llama, roomy, directory)),
    tokenCount: llama.func("int32_t llama_vocab_n_tokens(void *)"),
    type: llama.func("int llama_vocab_type(void *)"),
    tokenize,
    tokenizeAside: promisify(tokenize.async) as LlamaVocabApi["tokenizeAside"],
    detokenize,
    detokenizeAside: promisify(detokenize.async) as LlamaVocabApi["detokenizeAside"],
    tokenToPiece: llama.func("int32_t llama_token_to_piece(void *, int32_t, void *, int32_t, int32_t, bool)"),
    text: llama.func("str llama_vocab_get_text(void *, int32_t)"),
    isEog: llama.func("bool llama_vocab_is_eog(void *, int32_t)"),
    isControl: llama.func("bool llama_vocab_is_control(void *, int32_t)"),
    attributes: llama.func("int llama_vocab_get_attr(void *, int32_t)"),
    bos: llama.func("int32_t llama_vocab_bos(void *)"),
    eos: llama.func("int32_t llama_vocab_eos(void *)"),
    eot: llama.func("int32_t llama_vocab_eot(void *)"),
    addBos: llama.func("bool llama_vocab_get_add_bos(void *)"),
  };
}

/** The struct has changed between releases without a sign: its defaults are the only fingerprint it has. */
function checkedDefaults(llama: LibraryHandle, type: StructType, directory: string): ModelParameters {
  const get = llama.func("llama_model_default_params", type, []);
  const { parameters } = get() as { parameters: ModelParameters };
  const found = modelParametersFingerprint(parameters);
  if (found === expectedDefaults) return parameters;
  const reason = `llama_model_default_params() gives "${found}" instead of "${expectedDefaults}"`;
  throw new StelliumError("NATIVE_INCOMPATIBLE", { directory, reason });
}

function modelParametersFingerprint(parameters: ModelParameters): string {
  const names = Object.keys(modelParameterFields) as (keyof ModelParameters)[];
  return names.map((name) => Number(parameters[name] ?? 0)).join(" ");
}

function bindLoad(llama: LibraryHandle, type: StructType, defaults: ModelParameters): LlamaVocabApi["load"] {
  const loadModel = llama.func("llama_model_load_from_file", "void *", ["str", type]);
  const getVocab = llama.func("void *llama_model_get_vocab(void *)");
  const freeModel = llama.func("void llama_model_free(void *)");
  return (path) => {
    const lines: string[] = [];
    const model = withNativeLog(lines, () => loadModel(path, { ...defaults, vocab_only: 1 }) as bigint | null);
    if (!model) throw new StelliumError("MODEL_UNSUPPORTED", { model: path, reason: reasonIn(lines) });
    return { vocab: getVocab(model), free: () => freeModel(model) };
  };
}

/** libllama logs `function: error loading model: error loading model vocabulary: REASON`, and then less specific lines. */
function reasonIn(lines: string[]): string {
  const marked = lines.map((line) => /error loading model(?: \w+)*: (.*)/s.exec(line)?.[1]).find(Boolean);
  const reason = marked ?? lines.at(-1) ?? "libllama gave no reason";
  return reason.replace(/^(error loading model(?: \w+)*: )+/, "").trim();
}
