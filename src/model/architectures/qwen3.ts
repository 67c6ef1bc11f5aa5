import type { Architecture } from "../architecture.ts";

export const qwen3: Architecture = {
  name: "qwen3",
  models: "Qwen 3",
  rope: "neox",
  qkNorm: "head",
};
