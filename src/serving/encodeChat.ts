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
 * `<|im_end|>`, it is the text that a person wrote. Throws `TEMPLATE_FAILED`.
 */
export function encodeChat(
  encoder: PromptEncoder,
  template: ChatTemplate,
  messages: readonly ChatMessage[],
  options: ChatOptions = { addGenerationPrompt: true },
): Int32Array {
  const spellings = spelledIn(encoder.tokenizer, messages);
  const hide = (text: string) => spellings.reduce((hidden, s, i) => hidden.replaceAll(s, `${open}${i}${close}`), text);
  const hidden = spellings.length === 0 ? messages : messages.map((message) => hideIn(message, hide));
  const [first = "", ...rest] = template.render({ ...options, messages: hidden }).split(standIn);
  const head = encoder.encodePrompt(first, { template: true });
  // Split by a pattern with a group, indices of spellings and texts of the template alternate.
  const tail = rest.map((part, i) => encodePart(encoder, i % 2 === 0 ? spelled(part, spellings) : part, i % 2 === 1));
  return Int32Array.from([head, ...tail].flatMap((tokens) => Array.from(tokens)));
}

/** What a stand-in stands for: itself, where a person wrote it. */
function spelled(index: string, spellings: readonly string[]): string {
  return spellings[Number(index)] ?? `${open}${index}${close}`;
}

function hideIn({ role, ...fields }: ChatMessage, hide: (text: string) => string): ChatMessage {
  return { role, ...(mapTexts(fields, hide) as Record<string, unknown>) };
}

/** Every text in a value but names of fields. Throws `TEMPLATE_FAILED` for one that nests too deep. */
function mapTexts(value: unknown, map: (text: string) => string, depth = 0): unknown {
  if (typeof value === "string") return map(value);
  if (typeof value !== "object" || value === null) return value;
  if (depth === deepest) throw new StelliumError("TEMPLATE_FAILED", { reason: "a message nests too deep" });
  if (Array.isArray(value)) return value.map((element) => mapTexts(element, map, depth + 1));
  return Object.fromEntries(Object.entries(value).map(([name, field]) => [name, mapTexts(field, map, depth + 1)]));
}

function encodePart({ tokenizer }: PromptEncoder, text: string, parseSpecial: boolean): Int32Array {
  return tokenizer.encode(text, { addSpecial: false, parseSpecial });
}

/** The spellings of control tokens that occur in messages, longest first. */
function spelledIn(tokenizer: Tokenizer, messages: readonly ChatMessage[]): string[] {
  const controls = new Set<number>();
  const collect = (text: string) => {
    for (const token of tokenizer.encode(text, { addSpecial: false, parseSpecial: true })) {
      if (tokenizer.isControl(token)) controls.add(token);
    }
    return text;
  };
  for (const message of messages) mapTexts(message, collect);
  return [...controls].map((token) => tokenizer.text(token)).sort((a, b) => b.length - a.length);
}
