import { bodyOf, events, post } from "../serve/client.mjs";

/**
 * @typedef {object} Question A request whose answer is known.
 * @property {object} body
 * @property {KnownToken[]} answer What it is answered alone.
 */

/** @typedef {{ text: string, logprob: number, top: Record<string, number> }} KnownToken */

const speakers = ["ROMEO", "JULIET", "KING RICHARD", "First Citizen", "DUKE VINCENTIO", "Nurse"];
const texts = [
  "O, what a night is this! ",
  "The king said to his men that they should go. ".repeat(4),
  "K",
  "Now is the winter of our discontent made glorious summer by this sun of York; ",
];

/** Requests at temperature 0 of which some begin alike. */
export const bodies = speakers.flatMap((speaker) =>
  texts.map((text, i) => ({
    prompt: `${speaker}:\n${text}`,
    max_tokens: 4 + 12 * i,
    temperature: 0,
    ignore_eos: true,
  })),
);

/**
 * What each request is answered with nobody else there.
 * @param {import("node:http").Agent} agent
 * @param {string} url Of completions.
 * @returns {Promise<Question[]>}
 */
export async function askAlone(agent, url) {
  /** @type {Question[]} */
  const questions = [];
  for (const body of bodies) {
    const response = await post(agent, url, { ...body, logprobs: 10 });
    const { choices } = JSON.parse(await bodyOf(response));
    const { tokens, token_logprobs, top_logprobs } = choices[0].logprobs;
    /** @type {string[]} */
    const written = tokens;
    const answer = written.map((text, i) => ({ text, logprob: token_logprobs[i], top: top_logprobs[i] }));
    questions.push({ body, answer });
  }
  return questions;
}

/**
 * Reads an answer, token by token.
 * @param {import("node:http").IncomingMessage} response
 * @param {boolean} streamed
 * @returns {AsyncGenerator<string, void>}
 */
export async function* tokensOf(response, streamed) {
  if (!streamed) return yield* JSON.parse(await bodyOf(response)).choices[0].logprobs.tokens;
  let done = false;
  for await (const { data } of events(response)) {
    if (data.error) throw new Error(`a stream ended by ${JSON.stringify(data.error)}`);
    done ||= data === "[DONE]";
    yield* data.choices?.[0]?.logprobs?.tokens ?? [];
  }
  if (!done) throw new Error("a stream ended without [DONE]");
}

/** How much less likely than the other a token may be that is chosen among other sequences: kernels round otherwise. */
const nearTie = 0.35;

/**
 * What is wrong with an answer; undefined where nothing is. Where it parts from the one given alone, both tokens have to
 * have been about equally likely.
 * @param {Question} question
 * @param {readonly string[]} written
 * @returns {"near-tie" | string | undefined}
 */
export function faultOf({ body, answer }, written) {
  const parting = answer.findIndex(({ text }, i) => text !== written[i]);
  if (parting < 0) return written.length === answer.length ? undefined : `${JSON.stringify(body)}: it is longer`;
  const { logprob, top } = /** @type {KnownToken} */ (answer[parting]);
  const other = top[written[parting] ?? ""] ?? Number.NEGATIVE_INFINITY;
  if (logprob - other < nearTie && written.length === answer.length) return "near-tie";
  return `${JSON.stringify(body)}: ${JSON.stringify(written)} instead of ${JSON.stringify(answer.map(({ text }) => text))}`;
}
