import type { Architecture } from "./architecture.ts";
import { cohere2 } from "./architectures/cohere2.ts";
import { commandR } from "./architectures/command-r.ts";
import { deepseek2 } from "./architectures/deepseek2.ts";
import { ernie45 } from "./architectures/ernie4_5.ts";
import { ernie45moe } from "./architectures/ernie4_5-moe.ts";
import { exaone4 } from "./architectures/exaone4.ts";
import { gemma2 } from "./architectures/gemma2.ts";
import { gemma3 } from "./architectures/gemma3.ts";
import { gemma4 } from "./architectures/gemma4.ts";
import { glm4 } from "./architectures/glm4.ts";
import { glm4moe } from "./architectures/glm4moe.ts";
import { gptOss } from "./architectures/gpt-oss.ts";
import { granite } from "./architectures/granite.ts";
import { granitemoe } from "./architectures/granitemoe.ts";
import { llama } from "./architectures/llama.ts";
import { mistral3 } from "./architectures/mistral3.ts";
import { olmo2 } from "./architectures/olmo2.ts";
import { olmoe } from "./architectures/olmoe.ts";
import { phi3 } from "./architectures/phi3.ts";
import { qwen2 } from "./architectures/qwen2.ts";
import { qwen2moe } from "./architectures/qwen2moe.ts";
import { qwen2vl } from "./architectures/qwen2vl.ts";
import { qwen3 } from "./architectures/qwen3.ts";
import { qwen3moe } from "./architectures/qwen3moe.ts";
import { qwen3vl } from "./architectures/qwen3vl.ts";
import { seedOss } from "./architectures/seed_oss.ts";
import { smollm3 } from "./architectures/smollm3.ts";

/** All architectures that run. A new one is a file of facts and an entry here. */
export const architectures: readonly Architecture[] = [
  llama,
  qwen2,
  qwen3,
  gemma2,
  gemma3,
  phi3,
  mistral3,
  smollm3,
  granite,
  glm4,
  exaone4,
  seedOss,
  ernie45,
  cohere2,
  commandR,
  olmo2,
  qwen2vl,
  qwen3vl,
  gemma4,
  qwen3moe,
  qwen2moe,
  olmoe,
  granitemoe,
  ernie45moe,
  glm4moe,
  gptOss,
  deepseek2,
];
