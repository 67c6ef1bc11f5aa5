import { StelliumError } from "../errors.ts";
import { hasChannels } from "./answer/format.ts";
import type { TemplateSource } from "./jinja/render.ts";
import type { Sandbox } from "./sandbox/sandbox.ts";

/** A message of a conversation, as templates see it. */
export interface ChatMessage {
  role: string;
  content?: unknown;
  [field: string]: unknown;
}

/** What a template is given. */
export interface ChatTemplateInput {
  messages: readonly ChatMessage[];
  /** Definitions of functions, in OpenAI's shape. */
  tools?: readonly unknown[] | undefined;
  /** Whether to end with the opening of the assistant's next message; the template's own default if absent. */
  addGenerationPrompt?: boolean | undefined;
  /** The time that `strftime_now` tells, in the local time zone; the present if absent. */
  now?: Date | undefined;
  /** More variables, such as `enable_thinking`; they do not replace those above. */
  extra?: Readonly<Record<string, unknown>> | undefined;
}

/** A chat template. A model's author wrote it: whatever it does, it ends in bounded time and memory. */
export interface ChatTemplate {
  /**
   * The prompt of a conversation. It spells control tokens by name: encode it with `parseSpecial`.
   *
   * @throws StelliumError `TEMPLATE_FAILED`, naming the template, with its own reason or the limit that it passed
   */
  render(input: ChatTemplateInput): Promise<string>;
}

/** ChatML, for a model that comes without a template. */
export const fallbackChatTemplate =
  "{% for message in messages %}" +
  "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}" +
  "{% endfor %}" +
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/**
 * A Jinja chat template, as in a GGUF's `tokenizer.chat_template`, which is parsed and rendered in the sandbox.
 *
 * @throws StelliumError `TEMPLATE_FAILED` for a syntax error
 */
export async function openChatTemplate(sandbox: Sandbox, template: TemplateSource): Promise<ChatTemplate> {
  const overLimit = (reason: string) => new StelliumError("TEMPLATE_FAILED", { template: template.name, reason });
  await sandbox.run("parseTemplate", template, overLimit);
  const adapted = hasChannels(template.source) ? inChannels : (input: ChatTemplateInput) => input;
  return { render: (input) => sandbox.run("renderTemplate", { template, input: adapted(input) }, overLimit) };
}

/**
 * Changes messages to what templates of models that answer in channels expect: reasoning only before a call, in the field
 * `thinking`, and without text beside it.
 */
function inChannels({ messages, tools, ...rest }: ChatTemplateInput): ChatTemplateInput {
  return { ...rest, messages: messages.map(messageInChannels), tools: tools?.map(describedTool) };
}

function messageInChannels({ content, reasoning_content, ...rest }: ChatMessage): ChatMessage {
  const calls = rest["tool_calls"] !== undefined;
  if (calls && reasoning_content) return { ...rest, thinking: reasoning_content };
  return calls && content == null ? rest : { ...rest, content: content ?? "" };
}

function describedTool(tool: unknown): unknown {
  const { function: given, ...rest } = tool as { function?: object };
  return given === undefined ? tool : { ...rest, function: { description: "", ...given } };
}
