import { setImmediate } from "node:timers/promises";
import { StelliumError } from "../errors.ts";
import type { ChatMessage, ChatTemplate, ChatTemplateInput } from "./chatTemplate.ts";
import type { TextModel } from "./textModel.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** What turns text into tokens. */
export type PromptEncoder = Pick<TextModel, "encodePrompt"> & { readonly tokenizer: Tokenizer };

/** What a template is given besides the messages. */
export type ChatOptions = Omit<ChatTemplateInput, "messages">;

/** Private-use characters around an index stand for a spelling while the template runs. */
const [open, close] = ["\uf8f0", "\uf8f1"];
const standIn = new RegExp(`${open}(\\d+)${close}`);

/** Messages nest no deeper than people write them. */
const deepest = 64;

/**
 * The prompt of a conversation. Control tokens are those that the template spells; where a message spells one, such as
 * `<|im_end|>`, it is the text that a person wrote. Throws `TEMPLATE_FAILED`, `BAD_USAGE`, `REQUEST_INVALID`.
 */
export async function encodeChat(
  encoder: PromptEncoder,
  template: ChatTemplate,
  messages: readonly ChatMessage[],
  options: ChatOptions = { addGenerationPrompt: true },
): Promise<Int32Array> {
  const spellings = await spelledIn(encoder.tokenizer, messages);
  const hidden = spellings.length === 0 ? messages : await hideAll(messages, spellings);
  const [first = "", ...rest] = (await template.render({ ...options, messages: hidden })).split(standIn);
  const parts = [await encoder.encodePrompt(first, { template: true })];
  // Split by a pattern with a group, indices of spellings and texts of the template alternate.
  for (const [i, part] of rest.entries()) {
    const [text, parseSpecial] = i % 2 === 0 ? [spelled(part, spellings), false] : [part, true];
    parts.push(await encoder.tokenizer.encodeAside(text, { addSpecial: false, parseSpecial }));
  }
  return joined(parts);
}

function joined(parts: readonly Int32Array[]): Int32Array {
  const whole = new Int32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** What a stand-in stands for: itself, where a person wrote it. */
function spelled(index: string, spellings: readonly string[]): string {
  return spellings[Number(index)] ?? `${open}${index}${close}`;
}

async function hideAll(messages: readonly ChatMessage[], spellings: readonly string[]): Promise<ChatMessage[]> {
  const hide = (text: string) => spellings.reduce((hidden, s, i) => hidden.replaceAll(s, `${open}${i}${close}`), text);
  const hidden: ChatMessage[] = [];
  for (const message of messages) {
    hidden.push(hideIn(message, hide));
    await setImmediate();
  }
  return hidden;
}

function hideIn({ role, ...fields }: ChatMessage, hide: (text: string) => string): ChatMessage {
  return { role, ...(mapTexts(fields, hide) as Record<string, unknown>) };
}

/** Every text in a value but names of fields. Throws `BAD_USAGE` for one that nests too deep. */
function mapTexts(value: unknown, map: (text: string) => string, depth = 0): unknown {
  if (typeof value === "string") return map(value);
  if (typeof value !== "object" || value === null) return value;
  if (depth === deepest)
    throw new StelliumError("BAD_USAGE", { detail: `a message nests deeper than ${deepest} levels` });
  if (Array.isArray(value)) return value.map((element) => mapTexts(element, map, depth + 1));
  return Object.fromEntries(Object.entries(value).map(([name, field]) => [name, mapTexts(field, map, depth + 1)]));
}

/** The spellings of control tokens that occur in messages, longest first. */
async function spelledIn(tokenizer: Tokenizer, messages: readonly ChatMessage[]): Promise<string[]> {
  const texts: string[] = [];
  const collect = (text: string) => {
    texts.push(text);
    return text;
  };
  for (const message of messages) mapTexts(message, collect);
  const controls = new Set<number>();
  for (const text of texts) {
    for (const token of await tokenizer.encodeAside(text, { addSpecial: false, parseSpecial: true })) {
      if (tokenizer.isControl(token)) controls.add(token);
    }
  }
  return [...controls].map((token) => tokenizer.text(token)).sort((a, b) => b.length - a.length);
}
