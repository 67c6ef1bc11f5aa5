import { matrix, norm, normal, projection, stack } from "./outline.mjs";

/** @typedef {import("./outline.mjs").Outline} Outline */
/** @typedef {import("./shapes.mjs").Shape} Shape */

/**
 * @typedef {object} Experts Feed-forward parts, of which each token uses a few.
 * @property {number} count
 * @property {number} used How many each token uses.
 * @property {number} [feedForward] Width of one. Default the shape's, and no metadata of its own.
 * @property {number} [shared] Width of a further expert that every token uses.
 * @property {boolean} [sharedGate] The shared expert's output is weighted token by token.
 * @property {number} [correction] Standard deviation of `exp_probs_b`, which changes the choice but not the weights.
 * @property {boolean} [biases] Router and experts have biases, some so large that activations are clamped.
 * @property {boolean} [fusedGate] The gate and up are the rows of one matrix.
 * @property {boolean} [tensorEach] Each expert has its own tensors, as in files from 2023.
 * @property {boolean} [beside] The layer also has an ordinary feed-forward part; both have their own norms.
 * @property {number} [routerScale] Standard deviation of the router's logits if the weights of the norm before it are about 1. Default 2.
 */

/** @param {Shape} shape @param {string} prefix @returns {Outline[]} */
export function feedForwardOutlines(shape, prefix) {
  const { experts } = shape;
  if (!experts) return denseOutlines(shape, prefix);
  if (experts.beside) return [...denseOutlines(shape, prefix), ...besideOutlines(shape, experts, prefix)];
  return [...routerOutlines(shape, experts, prefix), ...expertOutlines(shape, experts, prefix)];
}

/** @param {Shape} shape @param {string} prefix @returns {Outline[]} */
function denseOutlines(shape, prefix) {
  const { embedding, feedForward, fusedGate } = shape;
  const gated = fusedGate
    ? projection(shape, prefix, "ffn_up", embedding, 2 * feedForward)
    : ["ffn_gate", "ffn_up"].flatMap((part) => projection(shape, prefix, part, embedding, feedForward));
  return [...gated, ...projection(shape, prefix, "ffn_down", feedForward, embedding)];
}

/**
 * Routers are F32 in every file.
 * @param {Shape} shape
 * @param {Experts} experts
 * @param {string} prefix
 * @returns {Outline[]}
 */
function routerOutlines({ embedding }, { count, biases, correction, routerScale = 2 }, prefix) {
  return [
    normal(`${prefix}ffn_gate_inp.weight`, [embedding, count], 0, routerScale / Math.sqrt(embedding)),
    ...(biases ? [normal(`${prefix}ffn_gate_inp.bias`, [count])] : []),
    ...(correction === undefined ? [] : [normal(`${prefix}exp_probs_b.bias`, [count], 0, correction)]),
  ];
}

/** @param {Shape} shape @param {Experts} experts @param {string} prefix @returns {Outline[]} */
function expertOutlines(shape, experts, prefix) {
  const { embedding } = shape;
  const { shared, sharedGate } = experts;
  const sharedParts = shared
    ? [
        matrix(`${prefix}ffn_gate_shexp`, embedding, shared),
        ...[matrix(`${prefix}ffn_up_shexp`, embedding, shared), matrix(`${prefix}ffn_down_shexp`, shared, embedding)],
      ]
    : [];
  const gate = sharedGate
    ? [normal(`${prefix}ffn_gate_inp_shexp.weight`, [embedding], 0, 1 / Math.sqrt(embedding))]
    : [];
  return [...partsOf(shape, experts, prefix), ...gate, ...sharedParts];
}

/** @param {Shape} shape @param {Experts} experts @param {string} prefix @returns {Outline[]} */
function partsOf({ embedding, feedForward }, experts, prefix) {
  const { count, biases, fusedGate, tensorEach } = experts;
  const width = experts.feedForward ?? feedForward;
  /** @type {[part: string, rowLength: number, rows: number][]} */
  const gated = fusedGate
    ? [["gate_up", embedding, 2 * width]]
    : [
        ["gate", embedding, width],
        ["up", embedding, width],
      ];
  /** @type {typeof gated} */
  const parts = [...gated, ["down", width, embedding]];
  return parts.flatMap(([part, rowLength, rows]) => [
    ...(tensorEach
      ? tensorsEach(`${prefix}ffn_${part}`, rowLength, rows, count)
      : [stack(`${prefix}ffn_${part}_exps`, rowLength, rows, count)]),
    ...(biases ? [normal(`${prefix}ffn_${part}_exps.bias`, [rows, count], 0, part === "down" ? 0.3 : 2)] : []),
  ]);
}

/**
 * One tensor for each expert, with the rows that it has in the tensor of all.
 * @param {string} name
 * @param {number} rowLength
 * @param {number} rows
 * @param {number} count
 * @returns {Outline[]}
 */
function tensorsEach(name, rowLength, rows, count) {
  return Array.from({ length: count }, (_, expert) => ({
    ...matrix(`${name}.${expert}`, rowLength, rows),
    partOf: { name: `${name}_exps.weight`, firstRow: expert * rows },
  }));
}

/**
 * Gemma 4: the router scales its input, each expert's output is scaled, and norms are around the experts and around the
 * ordinary part.
 * @param {Shape} shape
 * @param {Experts} experts
 * @param {string} prefix
 * @returns {Outline[]}
 */
function besideOutlines(shape, experts, prefix) {
  const { embedding } = shape;
  const norms = ["pre_ffw_norm_2", "post_ffw_norm_1", "post_ffw_norm_2"];
  return [
    ...routerOutlines(shape, experts, prefix),
    // The router's input is divided by the root of the embedding's length first.
    normal(`${prefix}ffn_gate_inp.scale`, [embedding], Math.sqrt(embedding), 0.3 * Math.sqrt(embedding)),
    ...partsOf(shape, experts, prefix),
    normal(`${prefix}ffn_down_exps.scale`, [experts.count], 1),
    ...norms.map((name) => norm(shape, `${prefix}${name}`, embedding)),
  ];
}
