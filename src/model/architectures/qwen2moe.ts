import type { Architecture } from "../architecture.ts";

export const qwen2moe: Architecture = {
  name: "qwen2moe",
  models: "Qwen 1.5 and 2 with experts",
  rope: "neox",
  biases: { optional: ["attn_q", "attn_k", "attn_v"] },
  experts: {},
};
