import { type ChatTemplate, createChatTemplate, fallbackChatTemplate } from "../../serving/chatTemplate.ts";
import type { TextModel } from "../../serving/textModel.ts";
import { getString } from "../../weights/gguf/metadata.ts";
import { readText } from "../textInput.ts";

/** A template, and the texts that end an answer written by it. */
export interface ChosenTemplate {
  readonly template: ChatTemplate;
  /** Its Jinja source. */
  readonly source: string;
  readonly stop: readonly string[];
}

/** The template from `file`, else the model's own, else ChatML, which is said on stderr. Throws `TEMPLATE_FAILED`. */
export async function chooseTemplate(textModel: TextModel, file: string | undefined): Promise<ChosenTemplate> {
  const { tokenizer, gguf } = textModel;
  const spelled = (token: number) => (token < 0 ? "" : tokenizer.text(token));
  const specials = { bosToken: spelled(tokenizer.bos), eosToken: spelled(tokenizer.eos) };
  const source = file === undefined ? getString(gguf, "tokenizer.chat_template") : await readText(file);
  if (source !== undefined) return { template: createChatTemplate(source, specials), source, stop: [] };
  process.stderr.write("The model has no chat template of its own; ChatML is used, which it may not understand.\n");
  // To a model that does not know ChatML its control tokens are text.
  const template = createChatTemplate(fallbackChatTemplate, specials);
  return { template, source: fallbackChatTemplate, stop: ["<|im_end|>"] };
}
