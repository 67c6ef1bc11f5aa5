import type { Architecture } from "../architecture.ts";

export const glm4: Architecture = {
  name: "glm4",
  models: "GLM 4",
  rope: "norm",
  ropeInSections: "mrope",
  norms: "both",
  biases: { optional: ["attn_q", "attn_k", "attn_v"] },
  fusedGate: true,
};
