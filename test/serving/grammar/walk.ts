import { compileSource } from "#stellium/serving/grammar/compile";
import {
  type CompiledGrammar,
  createTokenConstraint,
  type GrammarRequest,
  type TokenConstraint,
} from "#stellium/serving/grammar/constraint";
import { createSampler, defaultSampling } from "#stellium/serving/sampler";
import type { Tokenizer } from "#stellium/serving/tokenizer";

/** A grammar, ready to be followed. */
export function compiled(request: GrammarRequest): CompiledGrammar {
  return compileSource({ kind: "gbnf", ...request })!;
}

/** Numbers that look random, the same for the same seed. */
export function numbers(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Tokens that bring JSON to an end, those that end more the more often. */
function closers(tokenizer: Tokenizer): number[] {
  const texts = ['"', '"', '"', "}", "}", "]", "]", ",", ":", ".", ".", "0", "e", "-", "@", "T", "Z", "n", "u", "l"];
  const tokens = texts.flatMap((text) => [...tokenizer.encode(text, { addSpecial: false, parseSpecial: false })]);
  return [...tokens, tokenizer.eos, tokenizer.eos];
}

/**
 * What a model with random logits writes under a grammar, up to its end. So that there is one, tokens that close
 * something are preferred more and more. `each` sees the constraint before each token.
 */
export async function write(
  tokenizer: Tokenizer,
  request: GrammarRequest,
  seed: number,
  options: {
    visible?: ReadonlySet<number>;
    each?: (constraint: TokenConstraint) => Promise<void> | void;
    most?: number;
  } = {},
): Promise<{ text: string; tokens: number[]; ended: boolean }> {
  const { visible = new Set(), each = () => {}, most = 4000 } = options;
  const constraint = createTokenConstraint(tokenizer, compiled(request), visible);
  const sampler = createSampler({ ...defaultSampling, temperature: 1, topK: 0, topP: 1, minP: 0, seed }, constraint);
  const random = numbers(seed);
  const preferred = closers(tokenizer);
  const pieces: Uint8Array[] = [];
  const tokens: number[] = [];
  for (let step = 0; step < most; step++) {
    const logits = Float32Array.from({ length: tokenizer.size }, () => random() * 12);
    for (const token of preferred) logits[token]! += Math.min(8, step / 4);
    await each(constraint);
    const token = await sampler.sample(logits);
    tokens.push(token);
    if (tokenizer.isEog(token)) return { text: Buffer.concat(pieces).toString(), tokens, ended: true };
    pieces.push(tokenizer.pieceBytes(token, { special: visible.has(token) }));
  }
  return { text: Buffer.concat(pieces).toString(), tokens, ended: false };
}
