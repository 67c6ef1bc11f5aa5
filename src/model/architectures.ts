import type { Architecture } from "./architecture.ts";
import { llama } from "./architectures/llama.ts";
import { qwen2 } from "./architectures/qwen2.ts";
import { qwen3 } from "./architectures/qwen3.ts";

/** All architectures that run. A new one is a file of facts and a word here. */
export const architectures: readonly Architecture[] = [llama, qwen2, qwen3];
