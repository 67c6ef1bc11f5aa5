import { fillNormal, generator } from "./random.mjs";

/** @typedef {import("./outline.mjs").Outline} Outline */
/** @typedef {import("./shapes.mjs").Shape} Shape */

/**
 * @typedef {object} Routing How unevenly tokens of a random model choose experts. In trained models, some experts are
 * popular, and neighbouring tokens share experts.
 *
 * The first `channelLength` values of the hidden states are a channel from the embedding to all routers. No block writes to
 * it: those rows of `attn_output` and `ffn_down` are zero. A token's values in the channel are the sum of three random
 * vectors: one is the same for all tokens (it makes experts popular whose router rows resemble it), one is the same for
 * all tokens of a topic, and one is the token's own, or shared with few. The topic of token t is t modulo `topics`. The head's rows hold the
 * topics' vectors in the same place, so most tokens are followed by another of their topic. The rest of a router's row
 * sees the rest of the hidden states, so the choice also depends on the text before.
 *
 * Of the logits' variance, these four parts have the shares `popularity`, `topic`, `token` and `text`.
 * @property {number} popularity
 * @property {number} topic
 * @property {number} token
 * @property {number} text
 * @property {number} persistence By how much tokens of the same topic are preferred as the next one: a difference of
 * logits, in standard deviations of logits.
 * @property {number} growth Increase of the mean square of the hidden states in each layer, as measured in llama.cpp.
 */

/**
 * @typedef {object} Beginnings The first values of a matrix's rows: row r has those of number r modulo `count`.
 * @property {number} count
 * @property {(index: number) => Float32Array<ArrayBuffer>} valuesOf
 */

/** A whole number of blocks in every type. */
export const channelLength = 256;
const topics = 16;
/** Enough that generated text does not loop over a few tokens. */
const tokensPerTopic = 512;
/** Root of the mean square of the embedding in the channel, about twice what it is elsewhere. */
const amplitude = 0.05;

/** Adds to a tensor what its model's routing needs. @param {Outline} outline @param {Shape} shape @returns {Outline} */
export function routed(outline, shape) {
  const { routing, embedding, layers } = shape;
  if (!routing) return outline;
  const { name } = outline;
  if (name === "token_embd.weight") return { ...outline, channel: tokenBeginnings(routing) };
  if (name === "output.weight")
    return { ...outline, channel: topicBeginnings(routing, magnitude(embedding, routing, layers)) };
  if (/\.(attn_output|ffn_down)(_exps|_shexp)?\.(weight|bias)$/.test(name))
    return { ...outline, silent: channelLength };
  const [, layer] = /^blk\.(\d+)\.ffn_gate_inp\.weight$/.exec(name) ?? [];
  if (layer === undefined) return outline;
  return routerOf(outline, embedding, routing, magnitude(embedding, routing, Number(layer) + 0.5));
}

/**
 * Expected root mean square of the hidden states after this many layers.
 * @param {number} embedding
 * @param {Routing} routing
 * @param {number} layers
 */
function magnitude(embedding, { growth }, layers) {
  const channel = (channelLength / embedding) * amplitude ** 2;
  return Math.sqrt(channel + 1 / embedding + growth * layers);
}

/**
 * @param {Outline} outline
 * @param {number} embedding
 * @param {Routing} routing
 * @param {number} hidden Root mean square of the hidden states before the norm.
 * @returns {Outline}
 */
function routerOf(outline, embedding, { text }, hidden) {
  const scale = (outline.deviation ?? 0) * Math.sqrt(embedding);
  return {
    ...outline,
    deviation: scale * Math.sqrt(text / embedding),
    channelDeviation: (scale * Math.sqrt((1 - text) / channelLength) * hidden) / amplitude,
  };
}

/** The first values of the embedding of each kind of token. @param {Routing} routing @returns {Beginnings} */
function tokenBeginnings({ popularity, topic, token, text }) {
  const parts = [popularity, topic, token].map((share) => amplitude * Math.sqrt(share / (1 - text)));
  const valuesOf = (/** @type {number} */ index) => {
    const vectors = [randomVector("all"), randomVector(`topic ${index % topics}`), randomVector(`token ${index}`)];
    return Float32Array.from({ length: channelLength }, (_, i) =>
      vectors.reduce((sum, vector, part) => sum + (parts[part] ?? 0) * (vector[i] ?? 0), 0),
    );
  };
  return { count: topics * tokensPerTopic, valuesOf };
}

/** The first values of the head's rows. @param {Routing} routing @param {number} hidden @returns {Beginnings} */
function topicBeginnings({ topic, text, persistence }, hidden) {
  const factor = (persistence * hidden) / (amplitude * Math.sqrt(topic / (1 - text)) * channelLength);
  return { count: topics, valuesOf: (index) => randomVector(`topic ${index}`).map((value) => factor * value) };
}

/** @param {string} name */
function randomVector(name) {
  const vector = new Float32Array(channelLength);
  fillNormal(vector, generator(`channel/${name}`), 1);
  return vector;
}
