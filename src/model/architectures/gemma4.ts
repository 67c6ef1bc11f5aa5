import type { Architecture } from "../architecture.ts";

export const gemma4: Architecture = {
  name: "gemma4",
  models: "Gemma 4, its text part",
  layer: ["attention", "ffn", "perLayer"],
  rope: "neox",
  ropeFactors: ["freqs"],
  attentionScale: 1,
  norms: "both",
  qkNorm: "head",
  valueNorm: true,
  keysAsValues: true,
  sharedCells: true,
  activation: "gelu",
  experts: { activation: "gelu", normalized: true, beside: true },
  sliding: { ropeBase: 10_000, ropeUnscaled: "frequencies", ropeFactorless: true },
  embeddingScale: "root",
  softcaps: { logits: 0 },
};
