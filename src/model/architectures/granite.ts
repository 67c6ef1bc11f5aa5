import { type Architecture, projections } from "../architecture.ts";

export const granite: Architecture = {
  name: "granite",
  models: "Granite 3 and 4, the dense ones",
  rope: "norm",
  ropeFactors: ["freqs", "longrope"],
  ropeSwitch: true,
  biases: { optional: projections },
  attentionScale: true,
  embeddingScale: "key",
  residualScale: true,
  logitScale: "divide",
};
