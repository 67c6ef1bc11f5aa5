import type { Architecture } from "../architecture.ts";

export const seedOss: Architecture = {
  name: "seed_oss",
  models: "Seed-OSS",
  rope: "neox",
  feedForwardNorm: "post_attention_norm",
  biases: { optional: ["attn_q", "attn_k", "attn_v"] },
};
