import type { Architecture } from "../architecture.ts";

export const qwen2: Architecture = {
  name: "qwen2",
  models: "Qwen 2 and 2.5, QwQ, DeepSeek-R1-Distill-Qwen",
  rope: "neox",
  biases: { required: ["attn_q", "attn_k", "attn_v"] },
};
