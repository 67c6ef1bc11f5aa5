/** @typedef {import("#stellium/engine/engine").Engine} Engine */

/**
 * @typedef {object} Written What one device writes greedily, and how likely it takes every token to be at each position.
 * @property {number[]} prompt
 * @property {number[]} tokens
 * @property {Float64Array[]} logProbabilities
 */

/**
 * @typedef {object} Comparison
 * @property {number[]} flips Positions at which another token is the most likely one.
 * @property {number} atFlips Largest difference of log-probability of the two tokens in question, over the flips.
 * @property {number} written Largest difference of log-probability of a written token, over all positions.
 * @property {number} any The same of any token that has a probability of 0.1 % or more.
 */

/**
 * Writes greedily.
 * @param {Engine} engine @param {number[]} prompt @param {number} count
 * @returns {Promise<Written>}
 */
export async function write(engine, prompt, count) {
  /** @type {Written} */
  const written = { prompt, tokens: [], logProbabilities: [] };
  let logits = await engine.step({ tokens: prompt, position: 0, outputs: 1 });
  for (let i = 0; i < count; i++) {
    const token = mostLikely(logits);
    written.tokens.push(token);
    written.logProbabilities.push(logSoftmax(logits));
    logits = await engine.step({ tokens: [token], position: prompt.length + i, outputs: 1 });
  }
  return written;
}

/**
 * Follows what was written, so that every position is compared on the same past.
 * @param {Engine} engine @param {Written} written
 * @param {number} [batch] Tokens of the prompt that are taken at once; all of them if absent.
 * @returns {Promise<Comparison>}
 */
export async function follow(engine, { prompt, tokens, logProbabilities }, batch = prompt.length) {
  /** @type {Comparison} */
  const found = { flips: [], atFlips: 0, written: 0, any: 0 };
  /** @type {Float32Array} */
  let logits = new Float32Array();
  for (let position = 0; position < prompt.length; position += batch) {
    logits = await engine.step({ tokens: prompt.slice(position, position + batch), position, outputs: 1 });
  }
  for (const [i, token] of tokens.entries()) {
    compare(found, i, token, logSoftmax(logits), at(logProbabilities, i));
    logits = await engine.step({ tokens: [token], position: prompt.length + i, outputs: 1 });
  }
  return found;
}

const worthLookingAt = Math.log(1e-3);

/**
 * @param {Comparison} found @param {number} position @param {number} token
 * @param {Float64Array} ours @param {Float64Array} theirs
 */
function compare(found, position, token, ours, theirs) {
  const difference = (/** @type {number} */ of) => Math.abs(at(ours, of) - at(theirs, of));
  const best = mostLikely(ours);
  if (best !== token) {
    found.flips.push(position);
    found.atFlips = Math.max(found.atFlips, difference(best), difference(token));
  }
  found.written = Math.max(found.written, difference(token));
  for (let of = 0; of < theirs.length; of++) {
    if (at(theirs, of) >= worthLookingAt) found.any = Math.max(found.any, difference(of));
  }
}

/**
 * Log-probabilities of all tokens.
 * @param {Float32Array} logits
 */
export function logSoftmax(logits) {
  const max = logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const sum = logits.reduce((total, logit) => total + Math.exp(logit - max), 0);
  return Float64Array.from(logits, (logit) => logit - max - Math.log(sum));
}

/** @param {ArrayLike<number>} values */
function mostLikely(values) {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (at(values, i) > at(values, best)) best = i;
  return best;
}

/** @template T @param {ArrayLike<T>} values @param {number} i @returns {T} */
function at(values, i) {
  return /** @type {T} */ (values[i]);
}
