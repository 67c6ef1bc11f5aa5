import { existsSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { answerFormat, plainFormat, visibleMarkers } from "#stellium/serving/answer/format";
import { absentData, sharedData, skipIf } from "../../skip.ts";

const file = sharedData("templates/chat-templates.json");
const isAbsent = !existsSync(file);
const absent = skipIf(isAbsent, absentData("templates/chat-templates.json"));
const cases: Record<string, { chat_template: string; target: string }> = isAbsent
  ? {}
  : JSON.parse(readFileSync(file, "utf8"));

const think = { open: "<think>", close: "</think>", opened: false };
/** Those of the templates that have something to be found; other syntaxes of calls count as none. */
const found: Record<string, ReturnType<typeof answerFormat>> = {
  "mistralai/Mistral-7B-Instruct-v0.3 (JSON Schema)": { tools: "mistral" },
  "CISCai/Mistral-7B-Instruct-v0.3-SOTA-GGUF": { tools: "mistral" },
  "mistralai/Mistral-Nemo-Instruct-2407": { tools: "mistral" },
  "NousResearch/Hermes-2-Pro-Llama-3-8B (JSON Schema)": { tools: "hermes" },
  "meta-llama/Llama-3.1-8B-Instruct": { tools: "llama3" },
  "meta-llama/Llama-3.2-11B-Vision-Instruct": { tools: "llama3" },
  "Qwen/Qwen2.5-7B-Instruct": { tools: "hermes" },
  "Qwen/Qwen3-0.6B": { tools: "hermes", reasoning: think },
  "Qwen/Qwen3.5-4B": { reasoning: think },
  "HuggingFaceTB/SmolLM3-3B": { tools: "hermes", reasoning: think },
  "deepseek-ai/DeepSeek-R1": { reasoning: think },
  "moonshotai/Kimi-K2-Thinking": { reasoning: think },
  "LiquidAI/LFM2.5-VL-450M": { reasoning: think },
  "zai-org/GLM-5.1": { reasoning: think },
};

describe("of real chat templates", absent, () => {
  it.each(Object.keys(cases))("%s", (name) => {
    const { chat_template, target } = cases[name]!;
    expect(answerFormat(chat_template, target)).toEqual(found[name] ?? {});
  });
});

describe("the format of answers", () => {
  it("tells newer Mistral models, and their reasoning", () => {
    const template = "[AVAILABLE_TOOLS]{{ tools }}[TOOL_CALLS]{{ name }}[ARGS]{{ arguments }} [THINK]";
    const reasoning = { open: "[THINK]", close: "[/THINK]", opened: false };
    expect(answerFormat(template)).toEqual({ tools: "mistralNamed", reasoning });
  });

  it("tells answers in channels, which are looked for without tools as well", () => {
    const template = "<|start|>assistant<|channel|>final<|message|>{{ content }}<|end|>";
    const reasoning = { open: "<|channel|>analysis<|message|>", close: "<|end|>", opened: false };
    expect(answerFormat(template)).toEqual({ tools: "harmony", reasoning, channels: true });
    expect(plainFormat(template)).toEqual({ reasoning, channels: true });
    expect(plainFormat("<think>")).toEqual({});
    expect(visibleMarkers(plainFormat(template))).toContain("<|constrain|>");
  });

  it.each([
    ["<|assistant|>\n<think>\n", true],
    ["<|assistant|><think>", true],
    ["<|assistant|>\n<think>\n\n</think>\n\n", false],
    ["<|assistant|>\n", false],
  ])("tells from the prompt %j that reasoning is open: %s", (prompt, opened) => {
    expect(answerFormat("{{ '</think>' }}", prompt).reasoning?.opened).toBe(opened);
  });

  it("says which control tokens have to be seen", () => {
    expect(visibleMarkers({})).toEqual([]);
    expect(visibleMarkers({ tools: "llama3" })).toEqual(["<|python_tag|>"]);
    expect(visibleMarkers({ tools: "mistralNamed", reasoning: think })).toEqual([
      ...["[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"],
      ...["<think>", "</think>"],
    ]);
  });
});
