import type { Architecture } from "../architecture.ts";

export const granitemoe: Architecture = {
  name: "granitemoe",
  models: "Granite 3 and 4 with experts",
  rope: "norm",
  attentionScale: true,
  embeddingScale: "key",
  residualScale: true,
  logitScale: "divide",
  experts: { normalized: true },
};
