/** @typedef {import("./shapes.mjs").Shape} Shape */
/** @typedef {import("./header.mjs").Value} Value */

/** @param {number} value @returns {Value} */
const u32 = (value) => ({ type: "u32", value });
/** @param {number} value @returns {Value} */
const f32 = (value) => ({ type: "f32", value });

/**
 * A cache of a quarter of `qwen3-30b-a3b`'s experts, the least recently used going first, holds 55 to 65 % of the experts
 * that a token of its own text chooses.
 */
const routing = { popularity: 0.1, topic: 0.3, token: 0.4, text: 0.2, persistence: 0.8 };

/** @type {Shape} */
const gptOss = {
  ...{ architecture: "gpt-oss", layers: 24, embedding: 2880, feedForward: 2880, heads: 64, kvHeads: 8, headSize: 64 },
  ...{ vocabulary: 201088, context: 131072, ropeBase: 150_000, epsilon: 1e-5, preTokenizer: "gpt-4o" },
  ...{ feedForwardNorm: "post_attention_norm", sinks: true, biases: ["attn_q", "attn_k", "attn_v", "attn_output"] },
  experts: { count: 32, used: 4, feedForward: 2880, biases: true, routerScale: 1 },
  routing: { ...routing, growth: 16 },
  keys: {
    "attention.sliding_window": u32(128),
    "rope.scaling.type": { type: "string", value: "yarn" },
    "rope.scaling.factor": f32(32),
    "rope.scaling.original_context_length": u32(4096),
  },
};

/** Mixtures of experts that people run. */
export const largeMoeShapes = {
  "qwen3-30b-a3b": {
    ...{
      architecture: "qwen3moe",
      layers: 48,
      embedding: 2048,
      feedForward: 6144,
      heads: 32,
      kvHeads: 4,
      headSize: 128,
    },
    ...{ vocabulary: 151936, context: 40960, ropeBase: 1e6, epsilon: 1e-6, preTokenizer: "qwen2", qkNorm: "head" },
    experts: { count: 128, used: 8, feedForward: 768 },
    routing: { ...routing, growth: 2.3 },
  },
  "gpt-oss-20b": gptOss,
  "gpt-oss-120b": { ...gptOss, layers: 36, experts: { ...gptOss.experts, count: 128 } },
  "mixtral-8x7b": {
    ...{ architecture: "llama", layers: 32, embedding: 4096, feedForward: 14336, heads: 32, kvHeads: 8, headSize: 128 },
    ...{ vocabulary: 32000, context: 32768, ropeBase: 1e6, epsilon: 1e-5, preTokenizer: "gpt-2" },
    experts: { count: 8, used: 2 },
    routing: { ...routing, growth: 2.6 },
  },
  "glm-4.5-air": {
    ...{
      architecture: "glm4moe",
      layers: 46,
      embedding: 4096,
      feedForward: 10944,
      heads: 96,
      kvHeads: 8,
      headSize: 128,
    },
    ...{ vocabulary: 151552, context: 131072, ropeBase: 1e6, epsilon: 1e-5, preTokenizer: "glm4" },
    ...{ feedForwardNorm: "post_attention_norm", ropeDimensions: 64, biases: ["attn_q", "attn_k", "attn_v"] },
    predictionLayers: 1,
    experts: { count: 128, used: 8, feedForward: 1408, shared: 1408, correction: 0.02, routerScale: 0.5 },
    routing: { ...routing, growth: 10 },
    ofLayer: (/** @type {number} */ layer) => (layer < 1 ? { experts: undefined } : {}),
    keys: {
      expert_shared_count: u32(1),
      leading_dense_block_count: u32(1),
      expert_weights_scale: f32(1),
      expert_weights_norm: { type: "bool", value: true },
      expert_gating_func: u32(2),
    },
  },
};
