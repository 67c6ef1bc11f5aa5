import type { Architecture } from "../architecture.ts";

/** Qwen 2 and 2.5, QwQ, DeepSeek-R1-Distill-Qwen. */
export const qwen2: Architecture = {
  name: "qwen2",
  rope: "neox",
  ropeFactors: false,
  qkNorm: false,
  requiredBiases: ["attn_q", "attn_k", "attn_v"],
  optionalBiases: [],
};
