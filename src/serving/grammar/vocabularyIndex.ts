import type { Tokenizer } from "../tokenizer.ts";

/** The tokens of a vocabulary in the order of their bytes, so that a common beginning is looked at once. */
export interface VocabularyIndex {
  /** Tokens that add no text, and those that end a generation: `mask` leaves them as they are. */
  readonly silent: readonly number[];
  /**
   * Sets to -Infinity the logits of tokens whose bytes cannot be taken from `state` on; `step` gives the state behind
   * a byte, or null.
   */
  mask<S>(logits: Float32Array, state: S, step: (state: S, byte: number) => S | null): void;
}

const indices = new WeakMap<Tokenizer, VocabularyIndex>();

/** The index of a vocabulary, made at the first call. */
export function vocabularyIndex(tokenizer: Tokenizer): VocabularyIndex {
  const known = indices.get(tokenizer) ?? createIndex(tokenizer);
  indices.set(tokenizer, known);
  return known;
}

function createIndex(tokenizer: Tokenizer): VocabularyIndex {
  const tokens = Array.from({ length: tokenizer.size }, (_, token) => token);
  // Of one character for each byte: compact, and compared by the engine itself.
  const pieces = tokens.map((token) => Buffer.from(tokenizer.pieceBytes(token)).toString("latin1"));
  const speaks = (token: number) => pieces[token] !== "" && !tokenizer.isEog(token);
  const order = Int32Array.from(tokens.filter(speaks).sort((a, b) => (pieces[a]! < pieces[b]! ? -1 : 1)));
  const common = order.map((token, i) => (i === 0 ? 0 : commonLength(pieces[token]!, pieces[order[i - 1]!]!)));
  const mask: VocabularyIndex["mask"] = (logits, state, step) => {
    const path = [state];
    for (let i = 0; i < order.length; i++) {
      const token = order[i]!;
      // The path has one state more than bytes were taken: what shares the byte that was refused is refused as well.
      if (common[i]! >= path.length || !follow(pieces[token]!, common[i]!, path, step)) logits[token] = -Infinity;
    }
  };
  return { silent: tokens.filter((token) => !speaks(token)), mask };
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
