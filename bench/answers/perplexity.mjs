import { existsSync, readFileSync } from "node:fs";
import { openTokenizer } from "#stellium/serving/tokenizer";
import { logSoftmax } from "./compare.mjs";

/** @typedef {import("#stellium/engine/engine").Engine} Engine */
/** @typedef {{ tokens: readonly number[], bos: number, windows: number }} Text What perplexity is taken of. */

/** Tokens of a window, of which each but the first is to be foreseen; the first is the beginning of sequence. */
export const windowTokens = 255;

const excerpt = new URL("../../test/references/shakespeare.txt", import.meta.url);
const shakespeare = new URL("../../../shared/data/text/tinyshakespeare.txt", import.meta.url);
/** What the bundled model was not trained on: the last tenth. */
const heldOut = 0.9;

/** A few pages that the bundled model was not trained on. */
export function shortText() {
  return readFileSync(excerpt, "utf8");
}

/** The book's last tenth, or where ../shared/data is absent, its end. */
export function longText() {
  if (!existsSync(shakespeare)) return shortText();
  const text = readFileSync(shakespeare, "utf8");
  return text.slice(Math.floor(text.length * heldOut));
}

/**
 * Whole windows of a text, as tokens of a model's own.
 * @param {string} model @param {string} text @param {number} most windows
 * @returns {Text}
 */
export function tokensOf(model, text, most) {
  const tokenizer = openTokenizer(model);
  try {
    const tokens = [...tokenizer.encode(text, { addSpecial: false, parseSpecial: false })];
    return { tokens, bos: tokenizer.bos, windows: Math.min(most, Math.floor(tokens.length / windowTokens)) };
  } finally {
    tokenizer.close();
  }
}

/**
 * exp of the mean negative log-likelihood of a text.
 * @param {Engine} engine of the first rank, with room for the logits of a window @param {Text} text
 */
export async function perplexity(engine, { tokens, bos, windows }) {
  let sum = 0;
  for (let window = 0; window < windows; window++) {
    const due = tokens.slice(window * windowTokens, (window + 1) * windowTokens);
    const given = [bos, ...due.slice(0, -1)];
    const logits = await engine.step({ tokens: given, position: 0, outputs: windowTokens });
    sum += surprise(logits, due);
  }
  return Math.exp(sum / (windows * windowTokens));
}

/** @param {Float32Array} logits @param {readonly number[]} due */
function surprise(logits, due) {
  const size = logits.length / due.length;
  const each = due.map((token, i) => -(logSoftmax(logits.subarray(i * size, (i + 1) * size))[token] ?? 0));
  return each.reduce((sum, value) => sum + value, 0);
}
