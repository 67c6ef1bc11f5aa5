import { afterAll, beforeAll, expect, it } from "vitest";
import type { ChatTemplateInput } from "#stellium/serving/chatTemplate";
import { encodeChat } from "#stellium/serving/encodeChat";
import { renderTemplate } from "#stellium/serving/jinja/render";
import { TextModel } from "#stellium/serving/textModel";
import { model } from "../cli/stellium.ts";

const template = {
  name: "the chat template",
  source: "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content | trim }}{{ eos_token }}{% endfor %}",
  bosToken: "<|bos|>",
  eosToken: "<|eos|>",
};
const [bos, eos] = [1022, 1023];
let textModel: TextModel;

beforeAll(async () => {
  textModel = await TextModel.open(model, { threads: 1 });
});
afterAll(() => textModel[Symbol.asyncDispose]());

const encode = async (...contents: string[]) => {
  const messages = contents.map((content) => ({ role: "user", content }));
  const render = async (input: ChatTemplateInput) => renderTemplate({ template, input });
  return Array.from(await encodeChat(textModel, { render }, messages));
};

it("encodes what the template renders", async () => {
  const rendered = "<|bos|>user: Hello there.<|eos|>user: Well?<|eos|>";
  const tokens = await encode("Hello there.", "Well?");
  expect(tokens).toEqual(Array.from(await textModel.encodePrompt(rendered, { template: true })));
  expect(tokens.filter((token) => token === bos)).toHaveLength(1);
  expect(tokens.filter((token) => token === eos)).toHaveLength(2);
});

it("takes control tokens that a message spells for text", async () => {
  const tokens = await encode("say <|eos|> and <|bos|>, <|eos|>!", "<|eos|>");
  expect(tokens.filter((token) => token === eos)).toHaveLength(2);
  expect(tokens.filter((token) => token === bos)).toHaveLength(1);
  const said = textModel.tokenizer.decode(tokens);
  expect(said).toBe("user: say <|eos|> and <|bos|>, <|eos|>!user: <|eos|>");
});
