import type { Architecture } from "../architecture.ts";

export const phi3: Architecture = {
  name: "phi3",
  models: "Phi 3, 3.5 and 4",
  rope: "neox",
  scalesQueries: true,
  ropeFactors: ["longrope"],
  fusedGate: true,
};
