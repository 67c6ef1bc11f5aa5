import { setImmediate } from "node:timers/promises";
import { StelliumError } from "../errors.ts";
import { type LlamaVocabApi, llamaVocab, spelledAttributes, type Vocab } from "../native/llama.ts";
import { createPieceCache } from "./pieceCache.ts";

/** How `encode` treats special tokens. */
export interface EncodeOptions {
  /** Adds the tokens that the model wants around a text, such as beginning of sequence. */
  addSpecial: boolean;
  /** Reads the names of control tokens in the text, such as `<|im_start|>`, as those tokens instead of as plain text. */
  parseSpecial: boolean;
}

/** A model's vocabulary. Ids outside it throw `BAD_USAGE`; after `close` every method throws `ENGINE_FAILED`. */
export interface Tokenizer extends Disposable {
  /** Number of tokens; ids run from 0 to `size` - 1. */
  readonly size: number;
  /** Beginning of sequence, -1 if there is none. */
  readonly bos: number;
  /** End of sequence, -1 if there is none. */
  readonly eos: number;
  /** End of turn, -1 if there is none. */
  readonly eot: number;
  /** Whether the model wants `bos` at the start of a text. */
  readonly addBos: boolean;
  /** Token ids of a text. Lone surrogates count as U+FFFD. */
  encode(text: string, options: EncodeOptions): Int32Array;
  /**
   * The same for texts of others: it leaves the main thread free every few milliseconds, however long they are. Throws
   * `REQUEST_INVALID` where a text spells more special tokens than libllama finds in bounded time.
   */
  encodeAside(text: string, options: EncodeOptions): Promise<Int32Array>;
  /** Text of a sequence, without control tokens. */
  decode(tokens: ArrayLike<number>): string;
  /** The same for sequences of others, which may be long: on another thread. */
  decodeAside(tokens: ArrayLike<number>): Promise<string>;
  /** UTF-8 bytes that one token adds, perhaps part of a character; do not change them. Control tokens have some only if `special`. */
  pieceBytes(token: number, options?: { special?: boolean }): Uint8Array;
  /** Whether the token ends a generation. */
  isEog(token: number): boolean;
  isControl(token: number): boolean;
  /** The token as the vocabulary spells it, such as `▁the`. */
  text(token: number): string;
  /** Frees the native memory. */
  close(): void;
}

/**
 * Loads the vocabulary of a GGUF, which must be a valid file, by libllama; the weights are not read.
 *
 * @throws StelliumError `MODEL_UNSUPPORTED` with the reason, if the vocabulary cannot be used
 */
export function openTokenizer(path: string): Tokenizer {
  const api = llamaVocab();
  const { vocab, free } = api.load(path);
  try {
    requireByteTokens(api, vocab, path);
    return createTokenizer(api, vocab, free);
  } catch (error) {
    free();
    throw error;
  }
}

function createTokenizer(api: LlamaVocabApi, vocab: Vocab, free: () => void): Tokenizer {
  const size = api.tokenCount(vocab);
  const guard = createGuard(size);
  const pieces = createPieceCache(size, (token, room) => api.tokenToPiece(vocab, token, room, room.length, 0, false));
  const specials = createPieceCache(size, (token, room) => api.tokenToPiece(vocab, token, room, room.length, 0, true));
  const close = () => guard.close(free);
  return {
    size,
    bos: api.bos(vocab),
    eos: api.eos(vocab),
    eot: api.eot(vocab),
    addBos: api.addBos(vocab),
    encode: guard.open((text: string, options: EncodeOptions) => encode(api, vocab, text, options)),
    encodeAside: guard.aside(createEncoder(api, vocab, size)),
    decode: guard.open((tokens: ArrayLike<number>) => decode(api, vocab, guard.checked(tokens))),
    decodeAside: guard.aside(async (tokens: ArrayLike<number>) => decodeBeside(api, vocab, guard.checked(tokens))),
    pieceBytes: guard.token((token, { special = false } = {}) => (special ? specials : pieces).get(token)),
    isEog: guard.token((token) => api.isEog(vocab, token)),
    isControl: guard.token(remembered(size, (token) => api.isControl(vocab, token))),
    text: guard.token((token) => api.text(vocab, token)),
    close,
    [Symbol.dispose]: close,
  };
}

/** Asks for each token once: whole prompts are looked through. */
function remembered(size: number, ask: (token: number) => boolean): (token: number) => boolean {
  const answers = new Uint8Array(size);
  const [unknown, no, yes] = [0, 1, 2];
  return (token) => {
    if (answers[token] === unknown) answers[token] = ask(token) ? yes : no;
    return answers[token] === yes;
  };
}

/** The tokens that spellings are those of, where each is one token. */
export function tokensSpelled(tokenizer: Tokenizer, spellings: readonly string[]): ReadonlySet<number> {
  const tokens = spellings.map((text) => tokenizer.encode(text, { addSpecial: false, parseSpecial: true }));
  return new Set(tokens.flatMap((ids) => (ids.length === 1 ? [ids[0]!] : [])));
}

/** Characters that are encoded on the main thread in a row: some 5 ms. Longer texts are encoded on another thread. */
const shortText = 4096;
/** Special tokens that a text may spell: libllama needs a time that grows with the square of their number. */
const mostSpelled = 2 ** 14;

/** Encodes long texts on another thread, one after the other: the threads of the pool have other work, too. */
function createEncoder(api: LlamaVocabApi, vocab: Vocab, size: number) {
  let spellings: Promise<RegExp> | undefined;
  let before: Promise<unknown> = Promise.resolve();
  let inARow = 0;
  const encodeLong = async (text: string, options: EncodeOptions) => {
    spellings ??= spelledTokens(api, vocab, size);
    await requireFewSpelled(text, await spellings);
    return encodeBeside(api, vocab, text, options);
  };
  return async (text: string, options: EncodeOptions): Promise<Int32Array> => {
    if (text.length > shortText) {
      const encoded = before.then(() => encodeLong(text, options));
      before = encoded.catch(() => {});
      return encoded;
    }
    inARow += text.length;
    if (inARow > shortText) {
      inARow = 0;
      await setImmediate();
    }
    return encode(api, vocab, text, options);
  };
}

/** Finds what libllama looks for in a text before anything else. */
async function spelledTokens(api: LlamaVocabApi, vocab: Vocab, size: number): Promise<RegExp> {
  const any = spelledAttributes.unknown | spelledAttributes.control | spelledAttributes.userDefined;
  const texts: string[] = [];
  for (let token = 0; token < size; token++) {
    const text = api.attributes(vocab, token) & any ? api.text(vocab, token) : "";
    if (text !== "") texts.push(text);
    if (token % 4096 === 0) await setImmediate();
  }
  const escaped = texts.map((text) => text.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&"));
  return new RegExp(escaped.length === 0 ? "(?!)" : escaped.join("|"), "g");
}

/** Looks at a piece of the text at a time. */
async function requireFewSpelled(text: string, spellings: RegExp): Promise<void> {
  const piece = 2 ** 15;
  let count = 0;
  for (let at = 0; text.length > mostSpelled && at < text.length; at += piece) {
    for (const _ of text.slice(at, at + piece).matchAll(spellings)) count++;
    if (count > mostSpelled) {
      const reason = `a text spells more than ${mostSpelled} special tokens`;
      throw new StelliumError("REQUEST_INVALID", { reason });
    }
    await setImmediate();
  }
}

/** Stands before native code, which would abort the process for a wrong id and read freed memory after `close`. */
function createGuard(size: number) {
  let closed = false;
  let running = 0;
  let release = () => {};
  const check = (token: number) => {
    if (Number.isInteger(token) && token >= 0 && token < size) return;
    throw new StelliumError("BAD_USAGE", { detail: `token ${token} is not in the vocabulary of ${size} tokens` });
  };
  const open =
    <Arguments extends unknown[], Result>(method: (...values: Arguments) => Result) =>
    (...values: Arguments): Result => {
      if (closed) throw new StelliumError("ENGINE_FAILED", { reason: "the tokenizer is closed" });
      return method(...values);
    };
  return {
    open,
    token: <Result>(method: (token: number, options?: { special?: boolean }) => Result) =>
      open((token: number, options?: { special?: boolean }): Result => {
        check(token);
        return method(token, options);
      }),
    checked: (tokens: ArrayLike<number>): Int32Array => {
      for (let i = 0; i < tokens.length; i++) check(tokens[i]!);
      return Int32Array.from(tokens);
    },
    /** What is freed must not be in use: a call on another thread is waited for. */
    aside:
      <Arguments extends unknown[], Result>(method: (...values: Arguments) => Promise<Result>) =>
      async (...values: Arguments): Promise<Result> => {
        open(() => running++)();
        try {
          return await method(...values);
        } finally {
          if (--running === 0 && closed) release();
        }
      },
    /** Runs `free` once. */
    close: (free: () => void) => {
      if (closed) return;
      closed = true;
      if (running === 0) free();
      else release = free;
    },
  };
}

/** Passes bytes and a length, not a C string, so that NUL is a character like any other. */
function encode(api: LlamaVocabApi, vocab: Vocab, text: string, { addSpecial, parseSpecial }: EncodeOptions) {
  const bytes = Buffer.from(text, "utf8");
  const write = (ids: Int32Array) =>
    api.tokenize(vocab, bytes, bytes.length, ids, ids.length, addSpecial, parseSpecial);
  const ids = new Int32Array(bytes.length + 8);
  const count = write(ids);
  if (count >= 0) return ids.slice(0, count);
  const larger = new Int32Array(-count);
  return larger.slice(0, write(larger));
}

async function encodeBeside(api: LlamaVocabApi, vocab: Vocab, text: string, options: EncodeOptions) {
  const bytes = Buffer.from(text, "utf8");
  const write = (ids: Int32Array) =>
    api.tokenizeAside(vocab, bytes, bytes.length, ids, ids.length, options.addSpecial, options.parseSpecial);
  const ids = new Int32Array(bytes.length + 8);
  const count = await write(ids);
  if (count >= 0) return ids.slice(0, count);
  const larger = new Int32Array(-count);
  return larger.slice(0, await write(larger));
}

function decode(api: LlamaVocabApi, vocab: Vocab, ids: Int32Array): string {
  const write = (text: Uint8Array) => api.detokenize(vocab, ids, ids.length, text, text.length, false, false);
  const text = Buffer.alloc(ids.length * 8 + 8);
  const count = write(text);
  if (count >= 0) return text.toString("utf8", 0, count);
  const larger = Buffer.alloc(-count);
  return larger.toString("utf8", 0, write(larger));
}

async function decodeBeside(api: LlamaVocabApi, vocab: Vocab, ids: Int32Array): Promise<string> {
  const write = (text: Uint8Array) => api.detokenizeAside(vocab, ids, ids.length, text, text.length, false, false);
  const text = Buffer.alloc(ids.length * 8 + 8);
  const count = await write(text);
  if (count >= 0) return text.toString("utf8", 0, count);
  const larger = Buffer.alloc(-count);
  return larger.toString("utf8", 0, await write(larger));
}

const sentencePiece = 1;

/** Bytes that occur in UTF-8. */
const textBytes = Array.from({ length: 256 }, (_, byte) => byte).filter((b) => b !== 0xc0 && b !== 0xc1 && b < 0xf5);

/** libllama aborts the process when a SentencePiece vocabulary meets a byte that it has no token for. */
function requireByteTokens(api: LlamaVocabApi, vocab: Vocab, path: string): void {
  if (api.type(vocab) !== sentencePiece) return;
  const missing = new Set(textBytes);
  for (let token = 0; token < api.tokenCount(vocab) && missing.size > 0; token++) {
    missing.delete(byteSpelled(api.text(vocab, token)));
  }
  if (missing.size === 0) return;
  const reason = `its vocabulary has no token for ${missing.size} of the ${textBytes.length} bytes of UTF-8`;
  throw new StelliumError("MODEL_UNSUPPORTED", { model: path, reason });
}

/** The byte that a token stands for, as `<0x41>` or `A`; NaN if it is none. */
function byteSpelled(spelling: string): number {
  const hexadecimal = /^<0x([0-9A-F]{2})>$/.exec(spelling)?.[1];
  if (hexadecimal) return Number.parseInt(hexadecimal, 16);
  return Buffer.byteLength(spelling) === 1 ? spelling.charCodeAt(0) : Number.NaN;
}
