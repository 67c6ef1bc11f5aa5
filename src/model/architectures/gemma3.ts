import type { Architecture } from "../architecture.ts";

export const gemma3: Architecture = {
  name: "gemma3",
  models: "Gemma 3, its text part",
  rope: "neox",
  scalesQueries: true,
  norms: "both",
  qkNorm: true,
  activation: "gelu",
  sliding: { period: 6, ropeBase: 10_000 },
  embeddingScale: "root",
  scaleByEmbeddingAt: 62,
};
