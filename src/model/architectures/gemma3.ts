import type { Architecture } from "../architecture.ts";

export const gemma3: Architecture = {
  name: "gemma3",
  models: "Gemma 3, its text part",
  rope: "neox",
  scalesQueries: true,
  norms: "both",
  qkNorm: "head",
  activation: "gelu",
  sliding: { period: 6, ropeBase: 10_000, ropeUnscaled: "frequencies" },
  embeddingScale: "root",
  softcaps: { logits: 0 },
  scaleByEmbeddingAt: 62,
};
