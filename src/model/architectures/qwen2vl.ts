import type { Architecture } from "../architecture.ts";

export const qwen2vl: Architecture = {
  name: "qwen2vl",
  models: "Qwen 2 VL and 2.5 VL, their text part",
  rope: "mrope",
  biases: { optional: ["attn_q", "attn_k", "attn_v"] },
};
