import type { Architecture } from "../architecture.ts";

export const qwen3vl: Architecture = {
  name: "qwen3vl",
  models: "Qwen 3 VL, the text part of the dense ones",
  rope: "imrope",
  qkNorm: "head",
  biases: { optional: ["attn_q", "attn_k", "attn_v"] },
};
