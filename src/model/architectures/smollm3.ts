import type { Architecture } from "../architecture.ts";

export const smollm3: Architecture = {
  name: "smollm3",
  models: "SmolLM 3",
  rope: "norm",
  ropeLayers: { allButEvery: 4 },
  biases: { optional: ["attn_q", "attn_k", "attn_v"] },
};
