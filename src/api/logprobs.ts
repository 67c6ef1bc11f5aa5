import type { GeneratedToken } from "../serving/generation.ts";
import type { Tokenizer } from "../serving/tokenizer.ts";

/** A token and its log-probability, as OpenAI writes it. */
export interface LogprobEntry {
  /** Its text; U+FFFD where it is part of a character. */
  readonly token: string;
  readonly logprob: number;
  /** UTF-8. */
  readonly bytes: readonly number[];
}

/** A token of an answer, and those that could have stood in its place. */
export interface ContentLogprob extends LogprobEntry {
  readonly top_logprobs: readonly LogprobEntry[];
}

/** Lower than any that occurs, as OpenAI has it: JSON has no infinity. */
const leastLogprob = -9999;

/** What is told of a token's probability; undefined where nobody asked, and of a token that ends an answer. */
export function contentLogprob(tokenizer: Tokenizer, { token, logprobs }: GeneratedToken): ContentLogprob | undefined {
  if (logprobs === undefined || tokenizer.isEog(token)) return undefined;
  const top = logprobs.top.map((other) => entry(tokenizer, other.token, other.logprob));
  return { ...entry(tokenizer, token, logprobs.logprob), top_logprobs: top };
}

function entry(tokenizer: Tokenizer, token: number, logprob: number): LogprobEntry {
  const bytes = tokenizer.pieceBytes(token, { special: true });
  return {
    token: Buffer.from(bytes).toString("utf8"),
    logprob: Math.max(logprob, leastLogprob),
    bytes: Array.from(bytes),
  };
}
