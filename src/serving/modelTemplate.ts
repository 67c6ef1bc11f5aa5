import { basename } from "node:path";
import { getString } from "../weights/gguf/metadata.ts";
import { type ChatTemplate, fallbackChatTemplate, openChatTemplate } from "./chatTemplate.ts";
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

/** A template that is used in place of the model's own. */
export interface GivenTemplate {
  readonly source: string;
  /** Where it comes from, as errors name it. */
  readonly name: string;
}

/** The template that was given, else the model's own, else ChatML. Throws `TEMPLATE_FAILED`. */
export async function modelTemplate(
  { tokenizer, gguf, sandbox }: Pick<TextModel, "tokenizer" | "gguf" | "sandbox">,
  given?: GivenTemplate,
): Promise<ModelTemplate> {
  const spelled = (token: number) => (token < 0 ? "" : tokenizer.text(token));
  const specials = { bosToken: spelled(tokenizer.bos), eosToken: spelled(tokenizer.eos) };
  const own = given?.source ?? getString(gguf, "tokenizer.chat_template");
  const source = own ?? fallbackChatTemplate;
  const name = given?.name ?? `the chat template of ${basename(gguf.files[0]!)}`;
  const template = await openChatTemplate(sandbox, { name, source, ...specials });
  // To a model that does not know ChatML its control tokens are text.
  return { template, source, stop: own === undefined ? ["<|im_end|>"] : [], fallback: own === undefined };
}
