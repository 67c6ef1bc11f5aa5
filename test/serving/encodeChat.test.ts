import { afterAll, beforeAll, expect, it } from "vitest";
import { createChatTemplate } from "#stellium/serving/chatTemplate";
import { encodeChat } from "#stellium/serving/encodeChat";
import { TextModel } from "#stellium/serving/textModel";
import { model } from "../cli/stellium.ts";

const specials = { bosToken: "<|bos|>", eosToken: "<|eos|>" };
const template = createChatTemplate(
  "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content | trim }}{{ eos_token }}{% endfor %}",
  specials,
);
const [bos, eos] = [1022, 1023];
let textModel: TextModel;

beforeAll(async () => {
  textModel = await TextModel.open(model, { threads: 1 });
});
afterAll(() => textModel[Symbol.asyncDispose]());

const encode = (...contents: string[]) =>
  Array.from(
    encodeChat(
      textModel,
      template,
      contents.map((content) => ({ role: "user", content })),
    ),
  );

it("encodes what the template renders", () => {
  const rendered = "<|bos|>user: Hello there.<|eos|>user: Well?<|eos|>";
  const tokens = encode("Hello there.", "Well?");
  expect(tokens).toEqual(Array.from(textModel.encodePrompt(rendered, { template: true })));
  expect(tokens.filter((token) => token === bos)).toHaveLength(1);
  expect(tokens.filter((token) => token === eos)).toHaveLength(2);
});

it("takes control tokens that a message spells for text", () => {
  const tokens = encode("say <|eos|> and <|bos|>, <|eos|>!", "<|eos|>");
  expect(tokens.filter((token) => token === eos)).toHaveLength(2);
  expect(tokens.filter((token) => token === bos)).toHaveLength(1);
  const said = textModel.tokenizer.decode(tokens);
  expect(said).toBe("user: say <|eos|> and <|bos|>, <|eos|>!user: <|eos|>");
});
