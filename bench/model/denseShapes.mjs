/** @typedef {import("./shapes.mjs").Shape} Shape */

/**
 * Eight layers, so that each kind of layer occurs twice; four KV heads, which three ranks share unevenly; a row of every
 * matrix is a multiple of 256 values.
 * @type {Omit<Shape, "architecture">}
 */
const base = {
  ...{
    layers: 8,
    embedding: 256,
    feedForward: 512,
    heads: 8,
    kvHeads: 4,
    headSize: 32,
    vocabulary: 512,
    context: 1024,
  },
  // Sharper attention makes more of rounding, over 300 tokens and 8 layers, than it shows.
  ...{ ropeBase: 1e4, epsilon: 1e-5, preTokenizer: "gpt-2", sharpness: 1.4 },
};
/** @param {number} factor @returns {Required<Shape>["keys"]} */
const linearScaling = (factor) => ({
  "rope.scaling.type": { type: "string", value: "linear" },
  "rope.scaling.factor": { type: "f32", value: factor },
});
/** @param {number} factor @returns {Required<Shape>["keys"]} */
const yarn = (factor) => ({
  "rope.scaling.type": { type: "string", value: "yarn" },
  "rope.scaling.factor": { type: "f32", value: factor },
  "rope.scaling.original_context_length": { type: "u32", value: 64 },
});
/** Pairs of values that RoPE turns by each of four positions; of text, by the last one not at all. @param {number[]} pairs @returns {Required<Shape>["keys"]} */
const sections = (...pairs) => ({ "rope.dimension_sections": { type: "i32s", value: Int32Array.from(pairs) } });
const qkv = ["attn_q", "attn_k", "attn_v"];
const projections = [...qkv, "attn_output", "ffn_gate", "ffn_up", "ffn_down"];
/** @type {Omit<Shape, "architecture">} Heads that are wider together than the hidden states. */
const wideHeads = { ...base, heads: 8, kvHeads: 4, headSize: 64, tiedHead: true };
/** @type {Omit<Shape, "architecture">} A head's values differ from the hidden states' values per head. */
const deep = { ...base, feedForward: 256, heads: 2, kvHeads: 1, headSize: 256, tiedHead: true, sharpness: 1 };

/** @type {Shape} */
const gemma2 = {
  ...wideHeads,
  architecture: "gemma2",
  norms: "both",
  keys: {
    "attention.sliding_window": { type: "u32", value: 48 },
    // Both are less than what scores and logits reach.
    attn_logit_softcapping: { type: "f32", value: 1 },
    final_logit_softcapping: { type: "f32", value: 5 },
    // So that RoPE of sliding layers being scaled matters.
    ...linearScaling(4),
    "rope.freq_base_swa": { type: "f32", value: 100 },
  },
};

/** @type {Shape} */
const gemma3 = {
  ...wideHeads,
  ...{ architecture: "gemma3", norms: "both", qkNorm: "head", layers: 12, ropeBase: 1e6 },
  keys: { "attention.sliding_window": { type: "u32", value: 40 }, ...linearScaling(8) },
};

/** llama.cpp looks for tokens of its own where a model's name has "phi3" in it. @type {Shape} */
const phi3 = {
  ...base,
  ...{ architecture: "phi3", fusedQkv: true, fusedGate: true, longRope: true },
  keys: {
    "rope.scaling.original_context_length": { type: "u32", value: 400 },
    "rope.scaling.attn_factor": { type: "f32", value: 1.19 },
  },
};

/** @type {Shape} */
const exaone4 = {
  ...base,
  ...{ architecture: "exaone4", norms: "after", qkNorm: "head", ropeFactors: true },
  keys: { "attention.sliding_window": { type: "u32", value: 64 }, ...linearScaling(4) },
};

/** @type {Shape} */
const cohere2 = {
  ...base,
  ...{ architecture: "cohere2", parallel: true, layerNorm: true, tiedHead: true },
  keys: {
    "attention.sliding_window": { type: "u32", value: 64 },
    logit_scale: { type: "f32", value: 0.5 },
    ...linearScaling(2),
    // Of no effect here.
    "rope.freq_base_swa": { type: "f32", value: 100 },
  },
};

/** @type {Shape} */
const granite = {
  ...base,
  ...{ architecture: "granite", biases: projections, ropeFactors: true },
  keys: {
    embedding_scale: { type: "f32", value: 6 },
    residual_scale: { type: "f32", value: 0.4 },
    "attention.scale": { type: "f32", value: 0.11 },
    logit_scale: { type: "f32", value: 1.7 },
  },
};

/** @type {Shape} */
const glm4 = { ...base, architecture: "glm4", norms: "both", biases: qkv, fusedGate: true, ropeDimensions: 16 };

/** llama.cpp has no tied head here. @type {Shape} */
const olmo2 = { ...base, architecture: "olmo2", norms: "after", qkNorm: "all" };

/** @param {number} value @returns {import("./header.mjs").Value} */
const u32 = (value) => ({ type: "u32", value });
/** @param {number[]} values @returns {import("./header.mjs").Value} */
const i32s = (values) => ({ type: "i32s", value: Int32Array.from(values) });

/** Two layers with a window are followed by one that sees all tokens. @param {number} layer */
export const seesAll = (layer) => layer % 3 === 2;

/** @type {Shape} */
export const gemma4 = {
  ...{ architecture: "gemma4", layers: 6, embedding: 256, feedForward: 256, heads: 4, kvHeads: 1, headSize: 64 },
  ...{ vocabulary: 512, context: 1024, ropeBase: 1e6, epsilon: 1e-5, preTokenizer: "gpt-2", tiedHead: true },
  ...{ norms: "both", qkNorm: "head", ropeFactors: "quarter", layerScale: true, sharpness: 0.6 },
  keys: {
    "attention.sliding_window": u32(40),
    "attention.sliding_window_pattern": { type: "bools", value: [true, true, false, true, true, false] },
    "attention.key_length_swa": u32(32),
    "attention.value_length_swa": u32(32),
    "rope.dimension_count_swa": u32(32),
    "rope.freq_base_swa": { type: "f32", value: 1e4 },
    final_logit_softcapping: { type: "f32", value: 5 },
    embedding_length_per_layer_input: u32(0),
  },
};

/** RoPE of sliding layers has the architecture's base then. */
const { "rope.freq_base_swa": _, ...withoutBase } = /** @type {Required<Shape>["keys"]} */ (gemma4.keys);

/** All layers are dense; `moeShapes.mjs` has shapes of this architecture with experts. @type {Shape} */
const deepseek2 = {
  ...base,
  // Scores go through four norms here, elsewhere through two.
  ...{ architecture: "deepseek2", layers: 3, heads: 6, sharpness: 1.2 },
  // RoPE turns half of a key. The values of four heads are a block of 256.
  latent: { queryRank: 96, rank: 256, keySize: 32, ropeSize: 32, valueSize: 64 },
  keys: {
    ...yarn(16),
    "rope.scaling.yarn_log_multiplier": { type: "f32", value: 0.07 },
    leading_dense_block_count: u32(3),
    expert_shared_count: u32(1),
    expert_feed_forward_length: u32(32),
  },
};

/** Tiny models of architectures that vary on known facts. Every fact changes what they say. */
export const denseShapes = {
  "tiny-gemma2": gemma2,
  "tiny-gemma2-deep": {
    ...{ ...gemma2, ...deep, layers: 46, sharpness: 1.2 },
    // The caps and the window that are the architecture's own.
    keys: {},
  },
  "tiny-gemma3": gemma3,
  "tiny-gemma3-base": { ...gemma3, keys: { ...gemma3.keys, "rope.freq_base_swa": { type: "f32", value: 500 } } },
  "tiny-gemma3-global": {
    ...gemma3,
    layers: 4,
    keys: { ...linearScaling(8), final_logit_softcapping: { type: "f32", value: 5 } },
  },
  "tiny-gemma3-deep": { ...gemma3, ...deep, layers: 62 },
  "tiny-phi-long": phi3,
  "tiny-phi-short": {
    ...phi3,
    tiedHead: true,
    keys: { ...phi3.keys, "rope.scaling.original_context_length": { type: "u32", value: 800 } },
  },
  "tiny-mistral3": {
    ...base,
    ...{ architecture: "mistral3", biases: qkv, ropeFactors: true },
    keys: {
      ...yarn(16),
      "rope.scaling.yarn_beta_fast": { type: "f32", value: 24 },
      "rope.scaling.yarn_beta_slow": { type: "f32", value: 2 },
      "rope.scaling.yarn_log_multiplier": { type: "f32", value: 1 },
      "attention.temperature_scale": { type: "f32", value: 0.5 },
      // Another architecture's: this one takes the original context.
      "attention.temperature_length": { type: "u32", value: 100 },
    },
  },
  "tiny-smollm3": { ...base, architecture: "smollm3", biases: qkv, tiedHead: true },
  "tiny-granite": granite,
  "tiny-granite-nope": {
    ...granite,
    keys: { ...granite.keys, "rope.scaling.finetuned": { type: "bool", value: false } },
  },
  "tiny-granite-long": {
    ...granite,
    ...{ ropeFactors: false, longRope: true },
    keys: {
      ...granite.keys,
      "rope.scaling.type": { type: "string", value: "longrope" },
      "rope.scaling.original_context_length": { type: "u32", value: 400 },
      "rope.scaling.attn_factor": { type: "f32", value: 1.19 },
    },
  },
  "tiny-glm4": glm4,
  "tiny-glm4-fused": { ...glm4, fusedQkv: true },
  "tiny-glm4-sections": { ...glm4, keys: sections(3, 1, 2, 2) },
  "tiny-exaone4": exaone4,
  "tiny-exaone4-deep": {
    ...exaone4,
    ...{ layers: 64, feedForward: 256, heads: 4, kvHeads: 1, headSize: 64 },
    // The window that is the architecture's own.
    keys: linearScaling(4),
  },
  "tiny-seed_oss": { ...wideHeads, architecture: "seed_oss", feedForwardNorm: "post_attention_norm", biases: qkv },
  "tiny-ernie4_5": { ...base, architecture: "ernie4_5", biases: qkv, tiedHead: true },
  "tiny-cohere2": cohere2,
  "tiny-cohere2-pattern": {
    ...cohere2,
    keys: {
      ...cohere2.keys,
      "attention.sliding_window_pattern": {
        type: "bools",
        value: [true, false, false, true, true, false, true, false],
      },
    },
  },
  "tiny-olmo2": olmo2,
  "tiny-olmo2-window": {
    ...olmo2,
    keys: {
      "attention.sliding_window": { type: "u32", value: 64 },
      ...yarn(8),
      "rope.scaling.attn_factor": { type: "f32", value: 1.3 },
    },
  },
  "tiny-gemma4": {
    ...gemma4,
    perLayer: 32,
    // Layers 3 and 4 take the keys and values of layer 1, layer 5 those of layer 2.
    ofLayer: (/** @type {number} */ layer) => ({
      ...(seesAll(layer) ? {} : { headSize: 32 }),
      ...(layer < 3 ? {} : { sharedKv: true, feedForward: 512 }),
    }),
    keys: {
      ...gemma4.keys,
      "attention.shared_kv_layers": u32(3),
      embedding_length_per_layer_input: u32(32),
      feed_forward_length: i32s([256, 256, 256, 512, 512, 512]),
    },
  },
  // As the large ones are: layers that see everything have fewer KV heads, whose keys are values, too.
  "tiny-gemma4-keys": {
    ...gemma4,
    heads: 8,
    ofLayer: (/** @type {number} */ layer) =>
      seesAll(layer) ? { kvHeads: 2, valuesAreKeys: true } : { kvHeads: 4, headSize: 32 },
    keys: {
      ...withoutBase,
      "attention.head_count_kv": i32s([4, 4, 2, 4, 4, 2]),
      // In sliding layers, RoPE is not scaled.
      ...linearScaling(4),
    },
  },
  "tiny-qwen2vl": {
    ...base,
    ...{ architecture: "qwen2vl", biases: qkv, tiedHead: true, keys: sections(4, 3, 5, 4) },
    // llama.cpp 0.5.0 does not read the key, and computes with 0; later ones read it.
    epsilon: 0,
  },
  "tiny-qwen3vl": {
    ...base,
    ...{ architecture: "qwen3vl", qkNorm: "head", biases: qkv, tiedHead: true },
    keys: { ...sections(4, 3, 2, 7), n_deepstack_layers: { type: "u32", value: 3 } },
  },
  "tiny-command-r": {
    ...base,
    ...{ architecture: "command-r", parallel: true, layerNorm: true, biases: qkv, tiedHead: true },
    keys: { logit_scale: { type: "f32", value: 0.4 } },
  },
  "tiny-deepseek2-dense": deepseek2,
  "tiny-deepseek2-dense-lite": {
    ...deepseek2,
    latent: { rank: 64, keySize: 32, ropeSize: 16, valueSize: 32 },
    keys: {
      ...deepseek2.keys,
      // As without the key: all of YaRN's factor is in RoPE and in the scale of attention.
      "rope.scaling.yarn_log_multiplier": { type: "f32", value: 0 },
      "attention.q_lora_rank": { type: "u32", value: 0 },
    },
  },
  "tiny-deepseek2-dense-temperature": {
    ...deepseek2,
    keys: {
      ...deepseek2.keys,
      "attention.temperature_scale": { type: "f32", value: 0.5 },
      "attention.temperature_length": { type: "u32", value: 50 },
    },
  },
};

/**
 * Shapes that differ from another one of their architecture in keys alone, not in what is quantized or divided: their
 * models in F32 show all of it.
 */
export const keyVariants = [
  ...["tiny-gemma3-base", "tiny-gemma3-global", "tiny-phi-short", "tiny-granite-nope", "tiny-granite-long"],
  ...["tiny-glm4-sections", "tiny-cohere2-pattern", "tiny-olmo2-window", "tiny-deepseek2-dense-temperature"],
];
