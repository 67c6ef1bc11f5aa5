import type { Architecture } from "../architecture.ts";

export const olmoe: Architecture = {
  name: "olmoe",
  models: "OLMoE",
  rope: "neox",
  qkNorm: "all",
  experts: {},
};
