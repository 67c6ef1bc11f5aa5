import type { Architecture } from "../architecture.ts";

export const qwen3moe: Architecture = {
  name: "qwen3moe",
  models: "Qwen 3 with experts, such as Qwen3-30B-A3B",
  rope: "neox",
  qkNorm: "head",
  experts: { normalized: true },
};
