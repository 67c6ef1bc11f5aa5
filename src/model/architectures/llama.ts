import type { Architecture } from "../architecture.ts";

/** Llama 1 to 3.x, Mistral, Yi, TinyLlama, DeepSeek-R1-Distill-Llama. */
export const llama: Architecture = {
  name: "llama",
  rope: "norm",
  ropeFactors: true,
  qkNorm: false,
  requiredBiases: [],
  optionalBiases: ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"],
};
