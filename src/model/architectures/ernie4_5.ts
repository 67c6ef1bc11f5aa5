import type { Architecture } from "../architecture.ts";

export const ernie45: Architecture = {
  name: "ernie4_5",
  models: "ERNIE 4.5, the dense ones",
  rope: "norm",
  biases: { optional: ["attn_q", "attn_k", "attn_v"] },
};
