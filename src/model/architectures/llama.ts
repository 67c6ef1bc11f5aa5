import { type Architecture, projections } from "../architecture.ts";

export const llama: Architecture = {
  name: "llama",
  models: "Llama 1 to 3.x, Mistral, Mixtral, Yi, TinyLlama, DeepSeek-R1-Distill-Llama",
  rope: "norm",
  ropeFactors: ["freqs"],
  biases: { optional: projections },
  experts: { normalized: true },
};
