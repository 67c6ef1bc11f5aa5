import { getString } from "../weights/gguf/metadata.ts";
import { type ChatTemplate, createChatTemplate, fallbackChatTemplate } from "./chatTemplate.ts";
import type { TextModel } from "./textModel.ts";

/** A chat template, and what it means for answers. */
export interface ModelTemplate {
  readonly template: ChatTemplate;
  /** Its Jinja source. */
  readonly source: string;
  /** Texts that end an answer written by it. */
  readonly stop: readonly string[];
  /** Whether it is ChatML for want of anything better. */
  readonly fallback: boolean;
}

/** The template of this Jinja source, else the model's own, else ChatML. Throws `TEMPLATE_FAILED`. */
export function modelTemplate(
  { tokenizer, gguf }: Pick<TextModel, "tokenizer" | "gguf">,
  given?: string,
): ModelTemplate {
  const spelled = (token: number) => (token < 0 ? "" : tokenizer.text(token));
  const specials = { bosToken: spelled(tokenizer.bos), eosToken: spelled(tokenizer.eos) };
  const own = given ?? getString(gguf, "tokenizer.chat_template");
  const source = own ?? fallbackChatTemplate;
  // To a model that does not know ChatML its control tokens are text.
  const stop = own === undefined ? ["<|im_end|>"] : [];
  return { template: createChatTemplate(source, specials), source, stop, fallback: own === undefined };
}
