import { matrix, norm, normal, projection, stack } from "./outline.mjs";

/** @typedef {import("./outline.mjs").Outline} Outline */
/** @typedef {import("./shapes.mjs").Shape} Shape */

/**
 * @typedef {object} Latent Attention over a latent vector that all heads share (MLA).
 * @property {number} [queryRank] Queries go through a vector of this length.
 * @property {number} rank Length of the vector that keys and values are made of.
 * @property {number} keySize Values of a head's key that come from it.
 * @property {number} ropeSize Values of a key that RoPE turns, the same for all heads.
 * @property {number} valueSize Values of a head.
 */

/** @param {Shape} shape @param {string} prefix @returns {Outline[]} */
export function attentionOutlines(shape, prefix) {
  const { heads, sinks } = shape;
  return [
    ...(shape.latent ? latentOutlines(shape, shape.latent, prefix) : headOutlines(shape, prefix)),
    ...(sinks ? [normal(`${prefix}attn_sinks.weight`, [heads], 3, 1)] : []),
  ];
}

/** @param {Shape} shape @param {string} prefix @returns {Outline[]} */
function headOutlines(shape, prefix) {
  const { embedding, heads, kvHeads, headSize, fusedQkv, sharedKv, valuesAreKeys } = shape;
  const query = heads * headSize;
  const keyValue = kvHeads * headSize;
  const output = projection(shape, prefix, "attn_output", query, embedding);
  if (fusedQkv) return [...projection(shape, prefix, "attn_qkv", embedding, query + 2 * keyValue), ...output];
  const key = [
    ...projection(shape, prefix, "attn_k", embedding, keyValue),
    ...headNorm(shape, prefix, "attn_k_norm", kvHeads),
  ];
  return [
    ...[...projection(shape, prefix, "attn_q", embedding, query), ...headNorm(shape, prefix, "attn_q_norm", heads)],
    ...(sharedKv ? [] : key),
    ...(sharedKv || valuesAreKeys ? [] : projection(shape, prefix, "attn_v", embedding, keyValue)),
    ...output,
  ];
}

/** @param {Shape} shape @param {string} prefix @param {string} part @param {number} heads @returns {Outline[]} */
function headNorm({ qkNorm, headSize, sharpness }, prefix, part, heads) {
  if (!qkNorm) return [];
  return [norm({ sharpness }, `${prefix}${part}`, qkNorm === "all" ? heads * headSize : headSize)];
}

/**
 * The matrices that make keys and values of the latent vector are stored head by head, the keys' transposed, so that a
 * query can be multiplied by them in place of every key.
 * @param {Shape} shape
 * @param {Latent} latent
 * @param {string} prefix
 * @returns {Outline[]}
 */
function latentOutlines(shape, { queryRank, rank, keySize, ropeSize, valueSize }, prefix) {
  const { embedding, heads } = shape;
  const query = heads * (keySize + ropeSize);
  const queries = queryRank
    ? [
        ...[matrix(`${prefix}attn_q_a`, embedding, queryRank), norm(shape, `${prefix}attn_q_a_norm`, queryRank)],
        matrix(`${prefix}attn_q_b`, queryRank, query),
      ]
    : [matrix(`${prefix}attn_q`, embedding, query)];
  return [
    ...queries,
    ...[matrix(`${prefix}attn_kv_a_mqa`, embedding, rank + ropeSize), norm(shape, `${prefix}attn_kv_a_norm`, rank)],
    ...[stack(`${prefix}attn_k_b`, keySize, rank, heads), stack(`${prefix}attn_v_b`, rank, valueSize, heads)],
    matrix(`${prefix}attn_output`, heads * valueSize, embedding),
  ];
}
