import type { Architecture } from "../architecture.ts";

export const cohere2: Architecture = {
  name: "cohere2",
  models: "Command R7B, Command A",
  rope: "norm",
  ropeLayers: "sliding",
  norm: "layer",
  parallel: true,
  sliding: { period: 4 },
  logitScale: "multiply",
};
