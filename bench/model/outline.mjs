/**
 * @typedef {object} Outline A tensor before it has a type and a place in the file.
 * @property {"matrix" | "normal" | "given"} kind `matrix` has the file's type, the others are F32.
 * @property {string} name
 * @property {number[]} shape Row length first.
 * @property {number} [mean] Of normal values. Default 0.
 * @property {number} [deviation] Of normal values. Default 0.3.
 * @property {Float32Array<ArrayBuffer>} [values] The given ones.
 * @property {import("./routing.mjs").Beginnings} [channel] How rows of a matrix begin.
 * @property {number} [channelDeviation] Of the values in the channel.
 * @property {number} [silent] How many rows of each matrix, or values of a vector, are zero at its beginning.
 * @property {{ name: string, firstRow: number }} [partOf] The tensor that has the same rows among others.
 */

/** @param {string} name @param {number} rowLength @param {number} rows @returns {Outline} */
export function matrix(name, rowLength, rows) {
  return { kind: "matrix", name: `${name}.weight`, shape: [rowLength, rows] };
}

/**
 * A matrix for each expert, or for each head, in one tensor.
 * @param {string} name
 * @param {number} rowLength
 * @param {number} rows Of one matrix.
 * @param {number} count
 * @returns {Outline}
 */
export function stack(name, rowLength, rows, count) {
  return { kind: "matrix", name: `${name}.weight`, shape: [rowLength, rows, count] };
}

/** @param {string} name @param {number[]} shape @param {number} [mean] @param {number} [deviation] @returns {Outline} */
export function normal(name, shape, mean = 0, deviation = 0.3) {
  return { kind: "normal", name, shape, mean, deviation };
}

/**
 * The weights of a norm. Attention is so sharp that the next token depends on which few tokens it looks at, blocks matter
 * beside the embedding, and logits are a few units apart: without that, greedy tokens of random weights repeat themselves.
 * @param {Pick<import("./shapes.mjs").Shape, "sharpness">} shape
 * @param {string} name
 * @param {number} length
 */
export function norm({ sharpness = 2 }, name, length) {
  const [, part = name] = /^blk\.\d+\.(.*)$/.exec(name) ?? [];
  const mean = part === "output_norm" ? 3 : part.includes("post_") ? 2 : part.includes("attn_") ? sharpness : 1;
  return normal(`${name}.weight`, [length], mean, 0.1);
}

/**
 * A matrix, and its bias if it has one.
 * @param {import("./shapes.mjs").Shape} shape
 * @param {string} prefix
 * @param {string} part
 * @param {number} rowLength
 * @param {number} rows
 * @returns {Outline[]}
 */
export function projection({ biases = [] }, prefix, part, rowLength, rows) {
  const bias = biases.includes(part) ? [normal(`${prefix}${part}.bias`, [rows])] : [];
  return [matrix(`${prefix}${part}`, rowLength, rows), ...bias];
}
