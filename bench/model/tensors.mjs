import { rowBytes, tensorTypes } from "../../dist/native/tensorTypes.js";
import { alignment } from "./header.mjs";
import { matrixType } from "./types.mjs";

/**
 * @typedef {object} TensorSpec All that a tensor's bytes depend on, and where they lie.
 * @property {string} name
 * @property {number} seed
 * @property {"matrix" | "norm" | "bias" | "ropeFactors" | "factors"} kind `ropeFactors` are Llama 3.1's, `factors` random.
 * @property {import("../../dist/native/tensorTypes.js").TensorTypeName} type
 * @property {number[]} shape Row length first.
 * @property {number} rows
 * @property {number} rowBytes
 * @property {number} bytes
 * @property {number} offset Counted from the end of the header.
 * @property {import("./shapes.mjs").RopeScaling & { base: number } | undefined} rope
 * @property {number} sharpness Mean of the norms before attention.
 */

/** @typedef {{ kind: TensorSpec["kind"], name: string, shape: number[] }} Outline */

/**
 * Every tensor of a model, in the order of the file.
 * @param {import("./shapes.mjs").Shape} shape
 * @param {import("./types.mjs").FileType} fileType
 * @param {number} seed
 * @returns {TensorSpec[]}
 */
export function tensorsOf(shape, fileType, seed) {
  let offset = 0;
  return outlines(shape).map((outline) => {
    const spec = specOf(outline, shape, fileType, seed, offset);
    offset = Math.ceil((offset + spec.bytes) / alignment) * alignment;
    return spec;
  });
}

/**
 * @param {Outline} outline
 * @param {import("./shapes.mjs").Shape} model
 * @param {import("./types.mjs").FileType} fileType
 * @param {number} seed
 * @param {number} offset
 * @returns {TensorSpec}
 */
function specOf({ kind, name, shape }, model, fileType, seed, offset) {
  const [rowLength = 0, rows = 1] = shape;
  const isHead = name === (model.tiedHead ? "token_embd.weight" : "output.weight");
  const facts = { name, rowLength, layers: model.layers, grouped: model.heads / model.kvHeads, isHead };
  const type = kind === "matrix" ? matrixType(fileType, facts) : "F32";
  const bytesPerRow = rowBytes(type, rowLength);
  const rope = model.ropeScaling && { ...model.ropeScaling, base: model.ropeBase };
  const { sharpness = 2 } = model;
  const size = { shape, rows, rowBytes: bytesPerRow, bytes: rows * bytesPerRow };
  return { name, seed, kind, type, ...size, offset, rope, sharpness };
}

/** @param {import("./shapes.mjs").Shape} shape @returns {Outline[]} */
function outlines(shape) {
  const { embedding, vocabulary, layers } = shape;
  return [
    matrix("token_embd", embedding, vocabulary),
    ...ropeOutlines(shape),
    ...Array.from({ length: layers }, (_, layer) => layerOutlines(shape, `blk.${layer}.`)).flat(),
    vector("norm", "output_norm.weight", embedding),
    ...(shape.tiedHead ? [] : [matrix("output", embedding, vocabulary)]),
  ];
}

/** @param {import("./shapes.mjs").Shape} shape @returns {Outline[]} */
function ropeOutlines({ ropeScaling, ropeFactors, longRope, ropeDimensions, headSize }) {
  const pairs = (ropeDimensions ?? headSize) / 2;
  if (ropeScaling?.type === "llama3") return [vector("ropeFactors", "rope_freqs.weight", pairs)];
  const names = [
    ...(ropeFactors ? ["rope_freqs"] : []),
    ...(longRope ? ["rope_factors_long", "rope_factors_short"] : []),
  ];
  return names.map((name) => vector("factors", `${name}.weight`, pairs));
}

/** @param {import("./shapes.mjs").Shape} shape @param {string} prefix @returns {Outline[]} */
function layerOutlines(shape, prefix) {
  const { embedding, norms = "before", parallel, feedForwardNorm = "ffn_norm" } = shape;
  /** @param {string} name @param {boolean} wanted */
  const norm = (name, wanted) => (wanted ? [vector("norm", `${prefix}${name}.weight`, embedding)] : []);
  const [before, after] = [norms !== "after", norms !== "before"];
  return [
    ...norm("attn_norm", before),
    ...attentionOutlines(shape, prefix),
    ...norm("post_attention_norm", after),
    ...norm(feedForwardNorm, before && !parallel),
    ...feedForwardOutlines(shape, prefix),
    ...norm("post_ffw_norm", after),
  ];
}

/** @param {import("./shapes.mjs").Shape} shape @param {string} prefix @returns {Outline[]} */
function feedForwardOutlines(shape, prefix) {
  const { embedding, feedForward, fusedGate } = shape;
  const gated = fusedGate
    ? projection(shape, prefix, "ffn_up", embedding, 2 * feedForward)
    : ["ffn_gate", "ffn_up"].flatMap((part) => projection(shape, prefix, part, embedding, feedForward));
  return [...gated, ...projection(shape, prefix, "ffn_down", feedForward, embedding)];
}

/** @param {import("./shapes.mjs").Shape} shape @param {string} prefix @returns {Outline[]} */
function attentionOutlines(shape, prefix) {
  const { embedding, heads, kvHeads, headSize, qkNorm, fusedQkv } = shape;
  const query = heads * headSize;
  const keyValue = kvHeads * headSize;
  /** @param {string} part @param {number} heads */
  const headNorm = (part, heads) =>
    qkNorm ? [vector("norm", `${prefix}${part}.weight`, qkNorm === "all" ? heads * headSize : headSize)] : [];
  const all = fusedQkv
    ? projection(shape, prefix, "attn_qkv", embedding, query + 2 * keyValue)
    : [
        ...[...projection(shape, prefix, "attn_q", embedding, query), ...headNorm("attn_q_norm", heads)],
        ...[...projection(shape, prefix, "attn_k", embedding, keyValue), ...headNorm("attn_k_norm", kvHeads)],
        ...projection(shape, prefix, "attn_v", embedding, keyValue),
      ];
  return [...all, ...projection(shape, prefix, "attn_output", query, embedding)];
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
function projection({ biases = [] }, prefix, part, rowLength, rows) {
  const bias = biases.includes(part) ? [vector("bias", `${prefix}${part}.bias`, rows)] : [];
  return [matrix(`${prefix}${part}`, rowLength, rows), ...bias];
}

/** @param {string} name @param {number} rowLength @param {number} rows @returns {Outline} */
function matrix(name, rowLength, rows) {
  return { kind: "matrix", name: `${name}.weight`, shape: [rowLength, rows] };
}

/** @param {TensorSpec["kind"]} kind @param {string} name @param {number} length @returns {Outline} */
function vector(kind, name, length) {
  return { kind, name, shape: [length] };
}

/** @param {TensorSpec} spec */
export function typeIdOf(spec) {
  return tensorTypes[spec.type].id;
}
