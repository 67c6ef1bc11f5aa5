import { gemma4, seesAll } from "./denseShapes.mjs";

/** @typedef {import("./shapes.mjs").Shape} Shape */
/** @typedef {import("./header.mjs").Value} Value */

/** @param {number} value @returns {Value} */
const u32 = (value) => ({ type: "u32", value });
/** @param {number} value @returns {Value} */
const f32 = (value) => ({ type: "f32", value });
/** @param {boolean} value @returns {Value} */
const bool = (value) => ({ type: "bool", value });
/** @param {number[]} values @returns {Value} */
const i32s = (values) => ({ type: "i32s", value: Int32Array.from(values) });

const gating = { softmax: u32(1), sigmoid: u32(2) };
const qkv = ["attn_q", "attn_k", "attn_v"];

/**
 * Three layers: a first, a middle, and a last one. Rows have 256 values, except those of an expert's `ffn_down`, which
 * are shorter than a block of 256, as in some real models.
 * @type {Omit<Shape, "architecture">}
 */
const base = {
  ...{ layers: 3, embedding: 256, feedForward: 256, heads: 4, kvHeads: 2, headSize: 32 },
  ...{ vocabulary: 512, context: 1024, ropeBase: 1e4, epsilon: 1e-5, preTokenizer: "gpt-2" },
  ...{ sharpness: 1.4, tiedHead: true },
};

/** @type {Shape} */
const mixtral = {
  ...base,
  ...{ architecture: "llama", layers: 2 },
  // An expert's columns are one block of 256, or eight of 32.
  experts: { count: 8, used: 2 },
};

/** @type {Shape} */
const gptOss = {
  ...base,
  // Rows are three blocks of 32: as in the real models, no multiple of 256.
  ...{ architecture: "gpt-oss", layers: 4, embedding: 96, feedForward: 96, headSize: 64, tiedHead: false },
  ...{ feedForwardNorm: "post_attention_norm", biases: [...qkv, "attn_output"], sinks: true, ropeBase: 150_000 },
  experts: { count: 10, used: 4, feedForward: 96, biases: true, routerScale: 1 },
  keys: {
    "attention.sliding_window": u32(40),
    "rope.scaling.type": { type: "string", value: "yarn" },
    "rope.scaling.factor": f32(16),
    "rope.scaling.original_context_length": u32(64),
  },
};

/** @type {Shape} */
const glm4moe = {
  ...base,
  ...{ architecture: "glm4moe", feedForwardNorm: "post_attention_norm", biases: qkv, ropeDimensions: 16 },
  ...{ tiedHead: false, predictionLayers: 1 },
  // Two blocks of columns, which three ranks cannot share evenly; the shared expert has two as well.
  experts: { count: 14, used: 4, feedForward: 64, shared: 64, correction: 0.1, routerScale: 0.6 },
  ofLayer: (layer) => (layer < 1 ? { experts: undefined } : {}),
  keys: {
    expert_shared_count: u32(1),
    leading_dense_block_count: u32(1),
    expert_weights_scale: f32(1.7),
    expert_weights_norm: bool(true),
    expert_gating_func: gating.sigmoid,
  },
};

/** @type {Shape} */
const graniteMoe = {
  ...base,
  ...{ architecture: "granitemoe", feedForward: 64, tiedHead: false },
  experts: { count: 20, used: 4 },
  keys: {
    embedding_scale: f32(6),
    residual_scale: f32(0.4),
    "attention.scale": f32(0.11),
    logit_scale: f32(1.7),
  },
};

/** @type {Shape} */
const deepseek = {
  ...base,
  ...{ architecture: "deepseek2", ropeBase: 1e4 },
  latent: { rank: 64, keySize: 32, ropeSize: 16, valueSize: 32 },
  experts: { count: 8, used: 3, feedForward: 32, shared: 64 },
  ofLayer: (layer) => (layer < 1 ? { experts: undefined } : {}),
  keys: {
    expert_shared_count: u32(2),
    leading_dense_block_count: u32(1),
  },
};

/** YaRN with DeepSeek's weight for the scale of attention (`mscale_all_dim`). @param {number} weight */
const weightedYarn = (weight) => ({
  "rope.scaling.type": /** @type {Value} */ ({ type: "string", value: "yarn" }),
  "rope.scaling.factor": f32(16),
  "rope.scaling.original_context_length": u32(64),
  "rope.scaling.yarn_log_multiplier": f32(0.1 * weight),
});

/** @type {Shape} */
const deepseekV3 = {
  ...deepseek,
  latent: { queryRank: 96, rank: 64, keySize: 32, ropeSize: 16, valueSize: 32 },
  experts: { count: 16, used: 4, feedForward: 32, shared: 32, correction: 0.2, routerScale: 1 },
  keys: {
    ...deepseek.keys,
    ...weightedYarn(1),
    expert_shared_count: u32(1),
    expert_gating_func: gating.sigmoid,
    expert_weights_norm: bool(true),
    expert_weights_scale: f32(2.5),
    expert_group_count: u32(4),
    expert_group_used_count: u32(2),
  },
};

/**
 * Shapes of files that llama.cpp can no longer read, and the shape with the same weights that it can.
 * @type {Readonly<Record<string, string>>}
 */
export const sameWeights = { "tiny-mixtral-2023": "tiny-mixtral" };

/** Tiny mixtures of experts, and a dense Gemma 4. Every fact changes what they say. */
export const moeShapes = {
  "tiny-qwen3moe": {
    ...base,
    ...{ architecture: "qwen3moe", qkNorm: "head", ropeBase: 1e6, epsilon: 1e-6 },
    experts: { count: 12, used: 3, feedForward: 64 },
  },
  "tiny-qwen2moe": {
    ...base,
    ...{ architecture: "qwen2moe", heads: 8, biases: qkv, tiedHead: false, ropeBase: 1e6, sharpness: 2 },
    // One block of columns, so ranks get whole experts; the shared expert has three.
    experts: { count: 10, used: 4, feedForward: 32, shared: 96, sharedGate: true },
    keys: { expert_shared_feed_forward_length: u32(96) },
  },
  "tiny-mixtral": mixtral,
  "tiny-mixtral-2023": { ...mixtral, experts: { count: 8, used: 2, tensorEach: true } },
  "tiny-gpt-oss": gptOss,
  "tiny-glm4moe": { ...glm4moe, qkNorm: "head" },
  "tiny-glm4moe-air": {
    ...glm4moe,
    predictionLayers: 0,
    keys: { ...glm4moe.keys, expert_weights_scale: f32(1) },
  },
  "tiny-granitemoe": graniteMoe,
  "tiny-granitemoe-shared": {
    ...graniteMoe,
    experts: { count: 8, used: 3, shared: 96 },
    keys: { ...graniteMoe.keys, expert_shared_feed_forward_length: u32(96) },
  },
  "tiny-ernie4_5-moe": {
    ...base,
    ...{ architecture: "ernie4_5-moe", ropeBase: 5e5 },
    experts: { count: 12, used: 3, feedForward: 96, shared: 96, correction: 0.04 },
    ofLayer: (/** @type {number} */ layer) => (layer < 1 ? { experts: undefined } : {}),
    keys: {
      expert_shared_feed_forward_length: u32(96),
      leading_dense_block_count: u32(1),
      interleave_moe_layer_step: u32(1),
    },
  },
  "tiny-olmoe": {
    ...base,
    ...{ architecture: "olmoe", heads: 8, kvHeads: 8, feedForward: 32, qkNorm: "all", tiedHead: false },
    experts: { count: 16, used: 4 },
  },
  "tiny-deepseek2-lite": {
    ...deepseek,
    keys: { ...deepseek.keys, ...weightedYarn(0.7), "attention.q_lora_rank": u32(0) },
  },
  "tiny-deepseek2-lite-deep": {
    ...deepseek,
    // llama.cpp takes a model with 27 layers for a lite one, and does not look for the rank of queries.
    ...{ layers: 27, embedding: 128, heads: 2 },
    keys: { ...deepseek.keys, ...weightedYarn(0.7) },
  },
  "tiny-deepseek2": deepseekV3,
  "tiny-deepseek2-flash": {
    ...deepseek,
    ...{ ropeBase: 1e6, predictionLayers: 1 },
    // A head has more values than keys.
    latent: { queryRank: 96, rank: 64, keySize: 32, ropeSize: 16, valueSize: 64 },
    experts: { count: 12, used: 4, feedForward: 32, shared: 32, correction: 0.2, routerScale: 1, fusedGate: true },
    keys: {
      ...deepseek.keys,
      expert_shared_count: u32(1),
      expert_gating_func: gating.sigmoid,
      expert_weights_norm: bool(true),
      expert_weights_scale: f32(1.8),
      expert_group_count: u32(1),
      expert_group_used_count: u32(1),
    },
  },
  "tiny-gemma4-moe": {
    ...gemma4,
    ...{ layers: 3, tiedHead: false },
    experts: { count: 10, used: 3, feedForward: 32, fusedGate: true, beside: true },
    ofLayer: (/** @type {number} */ layer) => (seesAll(layer) ? { valuesAreKeys: true } : { headSize: 32, kvHeads: 2 }),
    keys: {
      ...gemma4.keys,
      "attention.sliding_window_pattern": { type: "bools", value: [true, true, false] },
      "attention.head_count_kv": i32s([2, 2, 1]),
    },
  },
};
