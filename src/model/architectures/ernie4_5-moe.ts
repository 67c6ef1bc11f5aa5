import type { Architecture } from "../architecture.ts";

export const ernie45moe: Architecture = {
  name: "ernie4_5-moe",
  models: "ERNIE 4.5 with experts",
  rope: "norm",
  experts: { normalized: true },
};
