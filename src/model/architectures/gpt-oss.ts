import type { Architecture } from "../architecture.ts";

export const gptOss: Architecture = {
  name: "gpt-oss",
  models: "gpt-oss",
  rope: "neox",
  sinks: true,
  sliding: { period: 2, ropeBase: "others" },
  feedForwardNorm: "post_attention_norm",
  biases: { required: ["attn_q", "attn_k", "attn_v", "attn_output"] },
  experts: { gating: "softmaxOfChosen", activation: "clamped-silu" },
};
