import { StelliumError } from "../../errors.ts";
import type { ReasoningMarkers } from "../answer/format.ts";
import type { Tokenizer } from "../tokenizer.ts";
import type { Program } from "./instructions.ts";
import { Matcher } from "./matcher.ts";
import { type Phase, Phases } from "./phases.ts";
import { Triggers } from "./triggers.ts";
import { vocabularyIndex } from "./vocabularyIndex.ts";

/** What an answer has to be. */
export interface GrammarRequest {
  /** A grammar in llama.cpp's GBNF, whose rule `root` is the answer, up to its end. */
  readonly gbnf: string;
  /**
   * Texts from which on the grammar applies, and which it begins with; before them anything may come. One that begins
   * with `^` counts at the start of the answer only, white space aside. None: the grammar applies from the first token.
   */
  readonly triggers?: readonly string[] | undefined;
  /** Reasoning that may come first, and in which nothing counts as a trigger. */
  readonly reasoning?: ReasoningMarkers | undefined;
}

/** What an answer has to be, ready to be followed. */
export interface CompiledGrammar extends GrammarRequest {
  readonly program: Program;
}

/** Which tokens may come next in one sequence. */
export interface TokenConstraint {
  allows(token: number): boolean;
  /**
   * Sets the logits of all other tokens to -Infinity. That may take as long as computing a token: other things run in
   * between.
   *
   * @throws StelliumError `GRAMMAR_INVALID` where none is left
   */
  mask(logits: Float32Array): Promise<void>;
  /** Goes on behind a token that is allowed. One that ends the generation changes nothing. */
  accept(token: number): void;
}

/**
 * Holds a sequence to a grammar. A token that ends a generation is allowed exactly where the grammar may end.
 *
 * @param visible control tokens that are part of the text
 * @throws StelliumError `GRAMMAR_INVALID`; also from its methods, where the grammar has too many readings of the text
 */
export function createTokenConstraint(
  tokenizer: Tokenizer,
  { program, triggers = [], reasoning }: CompiledGrammar,
  visible: ReadonlySet<number> = new Set(),
): TokenConstraint {
  const matcher = new Matcher(program);
  const phases = new Phases(matcher, triggers.length > 0 ? new Triggers(matcher, triggers) : undefined, reasoning);
  let phase = phases.first;
  const step = (from: Phase, byte: number) => phases.step(from, byte);
  const behind = (token: number): Phase | null => {
    const piece = tokenizer.pieceBytes(token, { special: visible.has(token) });
    let next: Phase | null = piece.length === 0 ? null : phase;
    for (let i = 0; i < piece.length && next !== null; i++) next = step(next, piece[i]!);
    return next;
  };
  const allows = (token: number) => (tokenizer.isEog(token) ? phases.isComplete(phase) : behind(token) !== null);
  return {
    allows,
    mask: async (logits) => {
      const { silent, mask } = await vocabularyIndex(tokenizer);
      if (phase.kind === "matching") await mask(logits, phase.state, (state, byte) => matcher.step(state, byte));
      else await mask(logits, phase, step);
      for (const token of silent) if (!allows(token)) logits[token] = -Infinity;
      if (logits.every((logit) => !Number.isFinite(logit))) throw stuck();
    },
    accept: (token) => {
      const next = tokenizer.isEog(token) ? phase : behind(token);
      if (next === null) throw new StelliumError("GRAMMAR_INVALID", { reason: `it does not allow the token ${token}` });
      phase = next.kind === "matching" ? { kind: "matching", state: matcher.renew(next.state) } : next;
    },
  };
}

function stuck(): StelliumError {
  return new StelliumError("GRAMMAR_INVALID", { reason: "the model has no token that goes on with it" });
}
