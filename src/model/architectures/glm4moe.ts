import type { Architecture } from "../architecture.ts";

export const glm4moe: Architecture = {
  name: "glm4moe",
  models: "GLM 4.5, 4.6 and 4.7, and the Air ones",
  rope: "neox",
  qkNorm: "head",
  qkNormOptional: true,
  feedForwardNorm: "post_attention_norm",
  biases: { optional: ["attn_q", "attn_k", "attn_v"] },
  experts: { gating: "sigmoid", gatingByKey: true, normalized: "key", scaled: true },
};
