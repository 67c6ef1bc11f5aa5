import type { Architecture } from "../architecture.ts";

export const gemma2: Architecture = {
  name: "gemma2",
  models: "Gemma 2",
  rope: "neox",
  scalesQueries: true,
  norms: "both",
  activation: "gelu",
  sliding: { period: 2, window: 4096, ropeBase: "others" },
  embeddingScale: "root",
  softcaps: { attention: 50, logits: 30 },
  scaleByEmbeddingAt: 46,
};
