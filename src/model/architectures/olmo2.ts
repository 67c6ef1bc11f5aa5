import type { Architecture } from "../architecture.ts";

export const olmo2: Architecture = {
  name: "olmo2",
  models: "OLMo 2 and 3",
  rope: "neox",
  norms: "after",
  qkNorm: "all",
  sliding: { period: 4, ropeUnscaled: "all" },
};
