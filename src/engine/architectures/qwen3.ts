import type { Architecture } from "./architecture.ts";

/** Qwen 3, the dense ones. */
export default {
  rope: "neox",
  ropeFactors: false,
  qkNorm: true,
  requiredBiases: [],
  optionalBiases: [],
} satisfies Architecture;
