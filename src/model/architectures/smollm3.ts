import { type Architecture, projections } from "../architecture.ts";

export const smollm3: Architecture = {
  name: "smollm3",
  models: "SmolLM 3",
  rope: "norm",
  ropeLayers: { allButEvery: 4 },
  biases: { optional: projections },
};
