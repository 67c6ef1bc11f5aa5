import { rowBytes, tensorTypes } from "../../dist/native/tensorTypes.js";
import { alignment } from "./header.mjs";
import { matrixType } from "./types.mjs";

/**
 * @typedef {object} TensorSpec All that a tensor's bytes depend on, and where they lie.
 * @property {string} name
 * @property {number} seed
 * @property {"matrix" | "norm" | "bias" | "ropeFactors"} kind
 * @property {import("../../dist/native/tensorTypes.js").TensorTypeName} type
 * @property {number[]} shape Row length first.
 * @property {number} rows
 * @property {number} rowBytes
 * @property {number} bytes
 * @property {number} offset Counted from the end of the header.
 * @property {import("./shapes.mjs").RopeScaling & { base: number } | undefined} rope
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
  return { name, seed, kind, type, shape, rows, rowBytes: bytesPerRow, bytes: rows * bytesPerRow, offset, rope };
}

/** @param {import("./shapes.mjs").Shape} shape @returns {Outline[]} */
function outlines(shape) {
  const { embedding, vocabulary, layers, headSize } = shape;
  const factors = shape.ropeScaling?.type === "llama3";
  return [
    matrix("token_embd", embedding, vocabulary),
    ...(factors ? [vector("ropeFactors", "rope_freqs.weight", headSize / 2)] : []),
    ...Array.from({ length: layers }, (_, layer) => layerOutlines(shape, layer)).flat(),
    vector("norm", "output_norm.weight", embedding),
    ...(shape.tiedHead ? [] : [matrix("output", embedding, vocabulary)]),
  ];
}

/** @param {import("./shapes.mjs").Shape} shape @param {number} layer @returns {Outline[]} */
function layerOutlines(shape, layer) {
  const { embedding, feedForward } = shape;
  const prefix = `blk.${layer}.`;
  return [
    vector("norm", `${prefix}attn_norm.weight`, embedding),
    ...attentionOutlines(shape, prefix),
    vector("norm", `${prefix}ffn_norm.weight`, embedding),
    matrix(`${prefix}ffn_gate`, embedding, feedForward),
    matrix(`${prefix}ffn_up`, embedding, feedForward),
    matrix(`${prefix}ffn_down`, feedForward, embedding),
  ];
}

/** @param {import("./shapes.mjs").Shape} shape @param {string} prefix @returns {Outline[]} */
function attentionOutlines({ architecture, embedding, heads, kvHeads, headSize }, prefix) {
  const query = heads * headSize;
  const keyValue = kvHeads * headSize;
  /** @param {string} part @param {number} width */
  const projection = (part, width) => [
    matrix(`${prefix}${part}`, embedding, width),
    ...(architecture === "qwen2" ? [vector("bias", `${prefix}${part}.bias`, width)] : []),
  ];
  /** @param {string} part */
  const headNorm = (part) => (architecture === "qwen3" ? [vector("norm", `${prefix}${part}.weight`, headSize)] : []);
  return [
    ...[...projection("attn_q", query), ...headNorm("attn_q_norm")],
    ...[...projection("attn_k", keyValue), ...headNorm("attn_k_norm")],
    ...projection("attn_v", keyValue),
    matrix(`${prefix}attn_output`, query, embedding),
  ];
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
