import type { Architecture } from "../architecture.ts";

export const commandR: Architecture = {
  name: "command-r",
  models: "Command R, Aya",
  rope: "norm",
  norm: "layer",
  parallel: true,
  biases: { optional: ["attn_q", "attn_k", "attn_v"] },
  logitScale: "multiply",
};
