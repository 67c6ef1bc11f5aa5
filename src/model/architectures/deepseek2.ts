import type { Architecture } from "../architecture.ts";

export const deepseek2: Architecture = {
  name: "deepseek2",
  models: "DeepSeek V2, V3 and R1, GLM 4.7 Flash",
  layer: ["latentAttention", "ffn"],
  rope: "norm",
  temperatureScale: "key",
  experts: {
    gatingByKey: true,
    sigmoidAt: { layers: [47, 48], vocabulary: 154_880 },
    normalized: "key",
    scaled: true,
  },
};
