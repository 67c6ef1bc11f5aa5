import type { ChatTemplate } from "./chatTemplate.ts";
import type { TextModel } from "./textModel.ts";

/** A message of text. */
export interface TextMessage {
  readonly role: string;
  readonly content: string;
}

/** Private-use characters around an index stand for a spelling while the template runs. */
const [open, close] = ["\uf8f0", "\uf8f1"];
const standIn = new RegExp(`${open}(\\d+)${close}`);

/**
 * The prompt of a conversation. Control tokens are those that the template spells; where a message spells one, such as
 * `<|im_end|>`, it is the text that a person wrote.
 */
export function encodeChat(textModel: TextModel, template: ChatTemplate, messages: readonly TextMessage[]): Int32Array {
  const spellings = spelledIn(textModel, messages);
  const hide = (text: string) => spellings.reduce((hidden, s, i) => hidden.replaceAll(s, `${open}${i}${close}`), text);
  const hidden = messages.map(({ role, content }) => ({ role, content: hide(content) }));
  const [first = "", ...rest] = template.render({ messages: hidden, addGenerationPrompt: true }).split(standIn);
  const head = textModel.encodePrompt(first, { template: true });
  // Split by a pattern with a group, indices of spellings and texts of the template alternate.
  const tail = rest.map((part, i) => encodePart(textModel, i % 2 === 0 ? spellings[Number(part)]! : part, i % 2 === 1));
  return Int32Array.from([head, ...tail].flatMap((tokens) => Array.from(tokens)));
}

function encodePart({ tokenizer }: TextModel, text: string, parseSpecial: boolean): Int32Array {
  return tokenizer.encode(text, { addSpecial: false, parseSpecial });
}

/** The spellings of control tokens that occur in messages, longest first. */
function spelledIn({ tokenizer }: TextModel, messages: readonly TextMessage[]): string[] {
  const tokens = messages.flatMap(({ content }) =>
    Array.from(tokenizer.encode(content, { addSpecial: false, parseSpecial: true })),
  );
  const controls = [...new Set(tokens)].filter((token) => tokenizer.isControl(token));
  return controls.map((token) => tokenizer.text(token)).sort((a, b) => b.length - a.length);
}
