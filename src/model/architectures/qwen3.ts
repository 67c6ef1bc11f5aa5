import type { Architecture } from "../architecture.ts";

/** Qwen 3, the dense ones. */
export const qwen3: Architecture = {
  name: "qwen3",
  rope: "neox",
  ropeFactors: false,
  qkNorm: true,
  requiredBiases: [],
  optionalBiases: [],
};
