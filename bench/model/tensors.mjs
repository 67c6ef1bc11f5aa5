import { rowBytes, tensorTypes } from "../../dist/native/tensorTypes.js";
import { attentionOutlines } from "./attention.mjs";
import { feedForwardOutlines } from "./feedForward.mjs";
import { alignment } from "./header.mjs";
import { matrix, norm, normal } from "./outline.mjs";
import { routed } from "./routing.mjs";
import { matrixType } from "./types.mjs";

/** @typedef {import("./outline.mjs").Outline} Outline */
/** @typedef {import("./shapes.mjs").Shape} Shape */

/**
 * @typedef {object} Placed What a tensor's bytes depend on besides its outline, and where they lie.
 * @property {number} seed
 * @property {import("../../dist/native/tensorTypes.js").TensorTypeName} type
 * @property {number} rows Of all its matrices.
 * @property {number} rowBytes
 * @property {number} bytes
 * @property {number} offset Counted from the end of the header.
 */

/** @typedef {Outline & Placed} TensorSpec */

/**
 * Every tensor of a model, in the order of the file.
 * @param {Shape} shape
 * @param {import("./types.mjs").FileType} fileType
 * @param {number} seed
 * @returns {TensorSpec[]}
 */
export function tensorsOf(shape, fileType, seed) {
  let offset = 0;
  return outlines(shape).map((outline) => {
    const spec = specOf(routed(outline, shape), shape, fileType, seed, offset);
    offset = Math.ceil((offset + spec.bytes) / alignment) * alignment;
    return spec;
  });
}

/**
 * @param {Outline} outline
 * @param {Shape} model
 * @param {import("./types.mjs").FileType} fileType
 * @param {number} seed
 * @param {number} offset
 * @returns {TensorSpec}
 */
function specOf(outline, model, fileType, seed, offset) {
  const { name, shape } = outline;
  const [rowLength = 0, ...counts] = shape;
  const rows = counts.reduce((product, count) => product * count, 1);
  const isHead = name === (model.tiedHead ? "token_embd.weight" : "output.weight");
  const experts = model.experts?.count ?? 0;
  const facts = { name, rowLength, layers: model.layers, grouped: model.heads / model.kvHeads, isHead, experts };
  const type = outline.kind === "matrix" ? matrixType(fileType, { ...facts, stacked: counts.length > 1 }) : "F32";
  const bytesPerRow = rowBytes(type, rowLength);
  return { ...outline, seed, type, rows, rowBytes: bytesPerRow, bytes: rows * bytesPerRow, offset };
}

/** @param {Shape} shape @returns {Outline[]} */
function outlines(shape) {
  const { embedding, vocabulary, layers, predictionLayers = 0 } = shape;
  return [
    matrix("token_embd", embedding, vocabulary),
    ...ropeOutlines(shape),
    ...perLayerOutlines(shape),
    ...Array.from({ length: layers }, (_, layer) => layerOutlines(shape, layer)).flat(),
    ...Array.from({ length: predictionLayers }, (_, index) => predictionOutlines(shape, layers + index)).flat(),
    norm(shape, "output_norm", embedding),
    ...(shape.tiedHead ? [] : [matrix("output", embedding, vocabulary)]),
  ];
}

/** @param {Shape} shape @returns {Outline[]} */
function ropeOutlines({ ropeScaling, ropeBase, ropeFactors, longRope, ropeDimensions, headSize }) {
  const pairs = (ropeDimensions ?? headSize) / 2;
  if (ropeScaling?.type === "llama3") return [given("rope_freqs", llama3Factors(ropeScaling, ropeBase, pairs))];
  if (ropeFactors === "quarter") return [given("rope_freqs", quarterFactors(pairs))];
  const names = [
    ...(ropeFactors ? ["rope_freqs"] : []),
    ...(longRope ? ["rope_factors_long", "rope_factors_short"] : []),
  ];
  return names.map((name) => normal(`${name}.weight`, [pairs], 2));
}

/** @param {string} name @param {Float32Array<ArrayBuffer>} values @returns {Outline} */
function given(name, values) {
  return { kind: "given", name: `${name}.weight`, shape: [values.length], values };
}

/**
 * What each frequency is divided by: 1 for the fast ones, `factor` for the slow ones, a smooth change between (Llama 3.1).
 * @param {import("./shapes.mjs").RopeScaling} scaling
 * @param {number} base
 * @param {number} pairs
 */
function llama3Factors({ factor, originalContext }, base, pairs) {
  return Float32Array.from({ length: pairs }, (_, index) => {
    const wavelength = 2 * Math.PI * base ** (index / pairs);
    const smooth = Math.min(1, Math.max(0, (originalContext / wavelength - 1) / 3));
    return 1 / ((1 - smooth) / factor + smooth);
  });
}

/** Gemma 4 turns a quarter of the pairs: the frequencies of the others are divided by a huge number. @param {number} pairs */
function quarterFactors(pairs) {
  return Float32Array.from({ length: pairs }, (_, index) => (index < pairs / 4 ? 1 : 1e30));
}

/**
 * An embedding for each layer, and the projection of the ordinary embedding that is added to it.
 * @param {Shape} shape
 * @returns {Outline[]}
 */
function perLayerOutlines(shape) {
  const { perLayer, layers, embedding, vocabulary } = shape;
  if (!perLayer) return [];
  return [
    matrix("per_layer_token_embd", perLayer * layers, vocabulary),
    matrix("per_layer_model_proj", embedding, perLayer * layers),
    norm(shape, "per_layer_proj_norm", perLayer),
  ];
}

/** @param {Shape} model @param {number} layer @returns {Outline[]} */
function layerOutlines(model, layer) {
  const shape = { ...model, ...model.ofLayer?.(layer) };
  const { embedding, norms = "before", parallel, feedForwardNorm = "ffn_norm", layerScale } = shape;
  const prefix = `blk.${layer}.`;
  /** @param {string} name @param {boolean} wanted */
  const optional = (name, wanted) => (wanted ? [norm(shape, `${prefix}${name}`, embedding)] : []);
  const [before, after] = [norms !== "after", norms !== "before"];
  return [
    ...optional("attn_norm", before),
    ...attentionOutlines(shape, prefix),
    ...optional("post_attention_norm", after),
    ...optional(feedForwardNorm, before && !parallel),
    ...feedForwardOutlines(shape, prefix),
    ...optional("post_ffw_norm", after),
    ...layerInputOutlines(shape, prefix),
    ...(layerScale ? [normal(`${prefix}layer_output_scale.weight`, [1], 0.5, 0.1)] : []),
  ];
}

/** @param {Shape} shape @param {string} prefix @returns {Outline[]} */
function layerInputOutlines(shape, prefix) {
  const { perLayer, embedding } = shape;
  if (!perLayer) return [];
  return [
    ...[matrix(`${prefix}inp_gate`, embedding, perLayer), matrix(`${prefix}proj`, perLayer, embedding)],
    norm(shape, `${prefix}post_norm`, embedding),
  ];
}

/**
 * An extra layer that predicts the token after the next. Generating text does not need it.
 * @param {Shape} shape
 * @param {number} layer
 * @returns {Outline[]}
 */
function predictionOutlines(shape, layer) {
  const { embedding, vocabulary } = shape;
  const prefix = `blk.${layer}.nextn.`;
  return [
    ...layerOutlines(shape, layer),
    matrix(`${prefix}eh_proj`, 2 * embedding, embedding),
    ...["enorm", "hnorm", "shared_head_norm"].map((name) => norm(shape, `${prefix}${name}`, embedding)),
    ...["embed_tokens", "shared_head_head"].map((name) => matrix(`${prefix}${name}`, embedding, vocabulary)),
  ];
}

/** @param {TensorSpec} spec */
export function typeIdOf(spec) {
  return tensorTypes[spec.type].id;
}
