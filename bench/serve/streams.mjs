import { bodyOf, connections, events, post } from "./client.mjs";

/** Requests to a server, timed where the client is. */
export class StreamClient {
  #agent = connections(64);
  #url;

  /** @param {string} url Of the server. */
  constructor(url) {
    this.#url = `${url}/v1/completions`;
  }

  /**
   * Streams at the same time, one for each prompt. Returns the sum of their tokens per second behind the first token.
   * @param {readonly number[][]} prompts
   * @param {number} tokens
   */
  async rate(prompts, tokens) {
    const rates = await Promise.all(prompts.map((prompt) => this.#streamRate(prompt, tokens)));
    return rates.reduce((sum, rate) => sum + rate, 0);
  }

  /**
   * Milliseconds until a token has been answered.
   * @param {readonly number[]} prompt
   * @returns {Promise<{ ms: number, cached: number }>}
   */
  async firstToken(prompt) {
    const started = performance.now();
    const { usage } = JSON.parse(await bodyOf(await this.#post(prompt, { max_tokens: 1 })));
    return { ms: performance.now() - started, cached: usage.prompt_tokens_details.cached_tokens };
  }

  close() {
    this.#agent.destroy();
  }

  /** @param {readonly number[]} prompt @param {number} tokens */
  async #streamRate(prompt, tokens) {
    /** @type {number[]} */
    const times = [];
    for await (const { at, data } of events(await this.#post(prompt, { max_tokens: tokens, stream: true }))) {
      if (data === "[DONE]") break;
      if (data.error) throw new Error(JSON.stringify(data.error));
      times.push(at);
    }
    // One event for each token, as their texts are ASCII but for few, and one with the reason of the end, at once.
    const [first = 0, last = 0] = [times[0], times.at(-1)];
    return ((tokens - 1) * 1000) / (last - first);
  }

  /** @param {readonly number[]} prompt @param {object} more */
  async #post(prompt, more) {
    const body = { prompt, temperature: 0, ignore_eos: true, ...more };
    const response = await post(this.#agent, this.#url, body);
    if (response.statusCode !== 200) throw new Error(await bodyOf(response));
    return response;
  }
}
