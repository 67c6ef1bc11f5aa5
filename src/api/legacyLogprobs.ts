import type { ContentLogprob } from "./logprobs.ts";

/** Collects log-probabilities in the form of OpenAI's first API: a list for each property. */
export class LegacyLogprobs {
  #entries: ContentLogprob[] = [];
  #offset: number;

  /** @param offset - where in the text the first token begins */
  constructor(offset: number) {
    this.#offset = offset;
  }

  add(entry: ContentLogprob | undefined): void {
    if (entry !== undefined) this.#entries.push(entry);
  }

  /** What has been collected since the last time. */
  take() {
    const entries = this.#entries;
    this.#entries = [];
    return {
      tokens: entries.map(({ token }) => token),
      token_logprobs: entries.map(({ logprob }) => logprob),
      top_logprobs: entries.map(({ top_logprobs: top }) =>
        Object.fromEntries(top.map(({ token, logprob }) => [token, logprob])),
      ),
      text_offset: entries.map(({ token }) => this.#place(token)),
    };
  }

  #place(token: string): number {
    const offset = this.#offset;
    this.#offset += token.length;
    return offset;
  }
}
