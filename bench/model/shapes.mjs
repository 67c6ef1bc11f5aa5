import { denseShapes } from "./denseShapes.mjs";
import { largeMoeShapes } from "./largeMoeShapes.mjs";
import { moeShapes } from "./moeShapes.mjs";

/**
 * @typedef {object} Shape Hyperparameters of one model, as GGUF names them.
 * @property {string} architecture
 * @property {number} layers
 * @property {number} embedding
 * @property {number} feedForward
 * @property {number} heads
 * @property {number} kvHeads
 * @property {number} headSize
 * @property {number} vocabulary
 * @property {number} context
 * @property {number} ropeBase
 * @property {number} epsilon
 * @property {"gpt-2" | "llama-bpe" | "qwen2" | "gpt-4o" | "glm4"} preTokenizer
 * @property {boolean} [tiedHead] The embedding is the output head too.
 * @property {RopeScaling} [ropeScaling]
 * @property {number} [ropeDimensions] Values of a head that RoPE turns. Default all.
 * @property {boolean | "quarter"} [ropeFactors] Factors per frequency: random, or so that only a quarter of the pairs turn.
 * @property {boolean} [longRope] There are such factors for long and for short contexts (`rope_factors_long`, `_short`).
 * @property {boolean} [layerNorm] Norms subtract the mean.
 * @property {"before" | "after" | "both"} [norms] Where a block has norms. Default before its matrices.
 * @property {string} [feedForwardNorm] Name of the norm before the feed-forward matrices. Default `ffn_norm`.
 * @property {boolean} [parallel] Feed-forward takes attention's input, under the same norm.
 * @property {"head" | "all"} [qkNorm] Norms of Q and of K: of each head by itself, or of all heads together.
 * @property {number | undefined} [sharpness] How different scores of attention are: mean of the norms before it. Default 2.
 * @property {readonly string[]} [biases] Projections that have one.
 * @property {boolean} [fusedQkv] Q, K and V are the rows of one matrix.
 * @property {boolean} [fusedGate] So are the gate and up.
 * @property {boolean} [sinks] Each head has an attention sink: one more score, without a value.
 * @property {import("./attention.mjs").Latent} [latent]
 * @property {boolean} [sharedKv] Keys and values are those of an earlier layer.
 * @property {boolean} [valuesAreKeys] The matrix of the keys makes the values, too.
 * @property {import("./feedForward.mjs").Experts | undefined} [experts]
 * @property {import("./routing.mjs").Routing} [routing] Default: all experts are equally likely.
 * @property {number} [perLayer] Length of an embedding that each layer has of its own.
 * @property {boolean} [layerScale] Each layer's output is multiplied by a number.
 * @property {number} [predictionLayers] Extra layers, the last in the file, that predict the token after the next.
 * @property {(layer: number) => Partial<Shape>} [ofLayer] Differences of one layer from the rest.
 * @property {Record<string, import("./header.mjs").Value>} [keys] Further metadata, without the architecture in front.
 */

/**
 * @typedef {object} RopeScaling `llama3` is a tensor of factors per frequency, the others are metadata.
 * @property {"linear" | "yarn" | "llama3"} type
 * @property {number} factor
 * @property {number} originalContext
 */

/** @type {Pick<Shape, "architecture" | "ropeBase" | "epsilon" | "preTokenizer">} */
const llama = { architecture: "llama", ropeBase: 1e4, epsilon: 1e-5, preTokenizer: "gpt-2" };
/** @type {Pick<Shape, "architecture" | "ropeBase" | "epsilon" | "preTokenizer" | "headSize" | "vocabulary" | "context">} */
const llama3 = { ...llama, ropeBase: 5e5, preTokenizer: "llama-bpe", headSize: 128, vocabulary: 128256, context: 8192 };
/** @type {Pick<Shape, "ropeBase" | "epsilon" | "preTokenizer">} */
const qwen = { ropeBase: 1e6, epsilon: 1e-6, preTokenizer: "qwen2" };
/** @type {Pick<Shape, "architecture" | "ropeBase" | "epsilon" | "preTokenizer" | "biases">} */
const qwen2 = { ...qwen, architecture: "qwen2", biases: ["attn_q", "attn_k", "attn_v"] };
/** @type {Pick<Shape, "architecture" | "ropeBase" | "epsilon" | "preTokenizer" | "qkNorm">} */
const qwen3 = { ...qwen, architecture: "qwen3", qkNorm: "head" };
const llama2 = { ...llama, headSize: 128, vocabulary: 32000, context: 4096 };
const size8b = { layers: 32, embedding: 4096, feedForward: 14336, heads: 32, kvHeads: 8 };
const size70b = { layers: 80, embedding: 8192, feedForward: 28672, heads: 64, kvHeads: 8 };
const tiny = { layers: 3, embedding: 256, feedForward: 768, heads: 8, vocabulary: 512, context: 1024 };
/** @type {Shape} */
const tinyLlama = { ...llama, ...tiny, kvHeads: 4, headSize: 32 };

/**
 * Shapes of models that people run, and tiny ones that compute the same things in milliseconds. Every matrix row of a tiny
 * one is a multiple of 256, so that every quantization fits.
 */
export const shapes = {
  "tiny-llama": tinyLlama,
  "tiny-llama-tied": { ...tinyLlama, tiedHead: true },
  "tiny-llama-linear": { ...tinyLlama, ropeScaling: { type: "linear", factor: 4, originalContext: 256 } },
  "tiny-llama-yarn": { ...tinyLlama, ropeScaling: { type: "yarn", factor: 16, originalContext: 64 } },
  "tiny-llama-llama3": { ...tinyLlama, ropeScaling: { type: "llama3", factor: 8, originalContext: 128 } },
  "tiny-qwen2": { ...tiny, ...qwen2, heads: 4, kvHeads: 2, headSize: 64, tiedHead: true },
  "tiny-qwen3": { ...tiny, ...qwen3, heads: 4, kvHeads: 2, headSize: 128, tiedHead: true },
  ...denseShapes,
  ...moeShapes,
  "tinyllama-1.1b": {
    ...llama2,
    ...{ layers: 22, embedding: 2048, feedForward: 5632, heads: 32, kvHeads: 4, headSize: 64, context: 2048 },
  },
  "llama-2-7b": { ...llama2, layers: 32, embedding: 4096, feedForward: 11008, heads: 32, kvHeads: 32 },
  "llama-2-70b": { ...llama2, ...size70b },
  "llama-3-8b": { ...llama3, ...size8b },
  "llama-3.1-8b": {
    ...llama3,
    ...size8b,
    context: 131072,
    ropeScaling: { type: "llama3", factor: 8, originalContext: 8192 },
  },
  "llama-3-70b": { ...llama3, ...size70b },
  "qwen2.5-0.5b": {
    ...qwen2,
    ...{ layers: 24, embedding: 896, feedForward: 4864, heads: 14, kvHeads: 2, headSize: 64 },
    ...{ vocabulary: 151936, context: 32768, tiedHead: true },
  },
  "qwen3-0.6b": {
    ...qwen3,
    ...{ layers: 28, embedding: 1024, feedForward: 3072, heads: 16, kvHeads: 8, headSize: 128 },
    ...{ vocabulary: 151936, context: 40960, tiedHead: true },
  },
  ...largeMoeShapes,
};

/**
 * The shape of this name, with another number of layers where one is given. Throws on an unknown name.
 * @param {string} name
 * @param {number} [layers]
 * @returns {Shape}
 */
export function shapeNamed(name, layers) {
  const found = /** @type {Record<string, Shape>} */ (shapes)[name];
  if (!found) throw new Error(`there is no shape "${name}"; there are ${Object.keys(shapes).join(", ")}`);
  return layers === undefined ? found : { ...found, layers };
}
