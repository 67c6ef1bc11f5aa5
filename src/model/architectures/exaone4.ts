import type { Architecture } from "../architecture.ts";

export const exaone4: Architecture = {
  name: "exaone4",
  models: "EXAONE 4",
  rope: "neox",
  ropeFactors: ["freqs"],
  ropeLayers: "sliding",
  norms: "after",
  qkNorm: "head",
  sliding: { period: 4, onlyOf: 64, window: 4096 },
};
