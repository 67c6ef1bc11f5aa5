import { existsSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import {
  type ChatMessage,
  type ChatTemplateInput,
  fallbackChatTemplate,
  openChatTemplate,
} from "#stellium/serving/chatTemplate";
import { renderTemplate } from "#stellium/serving/jinja/render";
import { strftime } from "#stellium/serving/jinja/strftime";
import { Sandbox } from "#stellium/serving/sandbox/sandbox";
import { absentData, sharedData, skipIf } from "../skip.ts";

const file = sharedData("templates/chat-templates.json");
const isAbsent = !existsSync(file);
const absent = skipIf(isAbsent, absentData("templates/chat-templates.json"));

interface Case {
  chat_template: string;
  data: Record<string, unknown> & { messages: ChatMessage[] };
  target: string;
}
const cases: Record<string, Case> = isAbsent ? {} : JSON.parse(readFileSync(file, "utf8"));

const specials = { bosToken: "<s>", eosToken: "</s>" };
const rendered = (source: string, input: ChatTemplateInput, tokens = specials) =>
  renderTemplate({ template: { name: "the chat template of x.gguf", source, ...tokens }, input });

function renderCase({ chat_template, data }: Case): string {
  const { messages, tools, add_generation_prompt, bos_token, eos_token, ...extra } = data;
  const tokens = { bosToken: String(bos_token ?? ""), eosToken: String(eos_token ?? "") };
  const input = {
    messages,
    tools: tools as unknown[] | undefined,
    addGenerationPrompt: add_generation_prompt as boolean | undefined,
    now: new Date("2025-07-10T12:00:00Z"),
    extra,
  };
  return rendered(chat_template, input, tokens);
}

describe("real chat templates", absent, () => {
  it("number 53", () => expect(Object.keys(cases)).toHaveLength(53));
  it.each(Object.keys(cases))("%s", (name) => expect(renderCase(cases[name]!)).toBe(cases[name]!.target));
});

const render = (source: string, extra: Record<string, unknown> = {}, now?: Date) =>
  rendered(source, { messages: [], addGenerationPrompt: false, extra, now });

describe("chat template", () => {
  it("falls back to ChatML", () => {
    const messages = [
      { role: "system", content: "Be brief." },
      { role: "user", content: "Hi" },
    ];
    const text = rendered(fallbackChatTemplate, { messages, addGenerationPrompt: true });
    expect(text).toBe(
      "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    );
  });

  it("offers the variables of Hugging Face, which extra ones cannot replace", () => {
    expect(render("{{ bos_token }}{{ eos_token }}{{ x }}", { x: 1, bos_token: "no" })).toBe("<s></s>1");
    expect(render("{% if tools is none %}none{% endif %}")).toBe("none");
  });

  it.each([
    ["{{ raise_exception('roles must alternate') }}", "roles must alternate"],
    ["{% if %}", ""],
    ["{{ range(1000000000) | length }}", "range()"],
    ["{{ range(0, 10, 0) | length }}", "range()"],
  ])("fails with TEMPLATE_FAILED and the reason: %s", (source, reason) => {
    const failure = expect.objectContaining({ code: "TEMPLATE_FAILED", message: expect.stringContaining(reason) });
    expect(() => render(source)).toThrow(failure);
  });

  it("counts as Python's range does", () => {
    const list = "{{ range(3) | join(' ') }},{{ range(2, 5) | join(' ') }},{{ range(5, 0, -2) | join(' ') }}";
    expect(render(list)).toBe("0 1 2,2 3 4,5 3 1");
  });

  it("tells the given time", () => {
    const now = new Date(2026, 1, 3, 15, 4, 5);
    expect(render("{{ strftime_now('%d %b %Y') }}", {}, now)).toBe("03 Feb 2026");
    expect(strftime(now, "%A, %B %-d, %Y %H:%M:%S %I:%M %p %j %y %% %Q")).toBe(
      "Tuesday, February 3, 2026 15:04:05 03:04 PM 034 26 % %Q",
    );
  });
});

describe("a template of a model that answers in channels", () => {
  const source =
    "{% for m in messages %}[{{ m.role }}" +
    "{% if 'content' in m %} content={{ m.content }}{% endif %}{% if m.thinking %} thinking={{ m.thinking }}{% endif %}]" +
    "{% endfor %}{% for t in tools %}// {{ t.function.name + t.function.description }}{% endfor %}" +
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}{# <|channel|> #}";
  const calls = { tool_calls: [{ function: { name: "f", arguments: {} } }] };

  it.each<[string, ChatMessage, string]>([
    [
      "a thought before a call",
      { ...calls, role: "assistant", content: "Well.", reasoning_content: "hm" },
      " thinking=hm",
    ],
    ["a call without text", { ...calls, role: "assistant", content: null }, ""],
    ["text before a call", { ...calls, role: "assistant", content: "Well." }, " content=Well."],
    ["a thought of another turn", { role: "assistant", content: "So.", reasoning_content: "hm" }, " content=So."],
  ])("is given %s as it wants it", async (_, message, shown) => {
    await using sandbox = new Sandbox(60_000);
    const template = await openChatTemplate(sandbox, { name: "x", source, ...specials });
    const tools = [{ type: "function", function: { name: "f" } }];
    const input = { messages: [message], tools, addGenerationPrompt: true };
    expect(await template.render(input)).toBe(`[assistant${shown}]// f<|start|>assistant`);
  });
});
