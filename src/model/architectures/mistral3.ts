import type { Architecture } from "../architecture.ts";

export const mistral3: Architecture = {
  name: "mistral3",
  models: "Mistral 3, Ministral 3, Devstral 2",
  rope: "norm",
  ropeFactors: ["freqs"],
  biases: { optional: ["attn_q", "attn_k", "attn_v"] },
  temperatureScale: "originalContext",
};
