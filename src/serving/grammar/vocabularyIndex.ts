import { setImmediate } from "node:timers/promises";
import type { Tokenizer } from "../tokenizer.ts";

/** The tokens of a vocabulary in the order of their bytes, so that a common beginning is looked at once. */
export interface VocabularyIndex {
  /** Tokens that add no text, and those that end a generation: `mask` leaves them as they are. */
  readonly silent: readonly number[];
  /**
   * Sets to -Infinity the logits of tokens whose bytes cannot be taken from `state` on; `step` gives the state behind
   * a byte, or null. Other things run in between.
   */
  mask<S>(logits: Float32Array, state: S, step: (state: S, byte: number) => S | null): Promise<void>;
}

const indices = new WeakMap<Tokenizer, Promise<VocabularyIndex>>();

/** The index of a vocabulary, made at the first call. */
export function vocabularyIndex(tokenizer: Tokenizer): Promise<VocabularyIndex> {
  const known = indices.get(tokenizer) ?? createIndex(tokenizer);
  indices.set(tokenizer, known);
  return known;
}

/** Milliseconds of work in a row. */
const longestTurn = 5;
/** How many bytes are followed before the clock is looked at: one of a costly grammar takes 2 ms. */
const bytesPerLook = 8;

/** Work that lets the event loop run now and then. */
class Turns {
  #end = performance.now() + longestTurn;

  #bytes = 0;

  /** Whether it is time to rest, after some more bytes. */
  areOver(bytes: number): boolean {
    this.#bytes += bytes;
    if (this.#bytes < bytesPerLook) return false;
    this.#bytes = 0;
    return performance.now() >= this.#end;
  }

  async rest(): Promise<void> {
    await setImmediate();
    this.#end = performance.now() + longestTurn;
  }
}

async function createIndex(tokenizer: Tokenizer): Promise<VocabularyIndex> {
  // Of one character for each byte: compact, and compared by the engine itself.
  const pieces: string[] = [];
  const turns = new Turns();
  for (let token = 0; token < tokenizer.size; token++) {
    pieces.push(Buffer.from(tokenizer.pieceBytes(token)).toString("latin1"));
    if (turns.areOver(1)) await turns.rest();
  }
  const speaks = (token: number) => pieces[token] !== "" && !tokenizer.isEog(token);
  const order = await inOrder(pieces, speaks);
  const common = order.map((token, i) => (i === 0 ? 0 : commonLength(pieces[token]!, pieces[order[i - 1]!]!)));
  const mask: VocabularyIndex["mask"] = async (logits, state, step) => {
    const path = [state];
    const turns = new Turns();
    for (let i = 0; i < order.length; i++) {
      const token = order[i]!;
      // The path has one state more than bytes were taken: what shares the byte that was refused is refused as well.
      if (common[i]! >= path.length) logits[token] = -Infinity;
      else {
        if (!follow(pieces[token]!, common[i]!, path, step)) logits[token] = -Infinity;
        if (turns.areOver(path.length - common[i]!)) await turns.rest();
      }
    }
  };
  const tokens = Array.from(pieces.keys());
  return { silent: tokens.filter((token) => !speaks(token)), mask };
}

/** The tokens that have text, by their bytes. Those that begin alike are sorted at a time. */
async function inOrder(pieces: readonly string[], speaks: (token: number) => boolean): Promise<Int32Array> {
  const alike = new Map<string, number[]>();
  for (const [token, piece] of pieces.entries()) {
    if (!speaks(token)) continue;
    const tokens = alike.get(piece.slice(0, 2));
    if (tokens === undefined) alike.set(piece.slice(0, 2), [token]);
    else tokens.push(token);
  }
  const order: number[] = [];
  const turns = new Turns();
  for (const beginning of [...alike.keys()].sort()) {
    for (const token of alike.get(beginning)!.sort((a, b) => (pieces[a]! < pieces[b]! ? -1 : 1))) order.push(token);
    if (turns.areOver(bytesPerLook)) await turns.rest();
  }
  return Int32Array.from(order);
}

/** Makes `path` the states along `piece`, of which it has those of the first `known` bytes, as far as they go. */
function follow<S>(piece: string, known: number, path: S[], step: (state: S, byte: number) => S | null): boolean {
  path.length = known + 1;
  for (let at = known; at < piece.length; at++) {
    const next = step(path[at]!, piece.charCodeAt(at));
    if (next === null) return false;
    path.push(next);
  }
  return true;
}

function commonLength(a: string, b: string): number {
  let length = 0;
  while (length < a.length && a.charCodeAt(length) === b.charCodeAt(length)) length++;
  return length;
}
