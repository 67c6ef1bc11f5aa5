import { isUtf8 } from "node:buffer";
import { z } from "zod";
import { chatBody, templateOptions } from "./chatRequest.ts";
import { isToken } from "./completions.ts";
import type { Api, ApiContext } from "./context.ts";
import { checkLength } from "./fields.ts";
import { templateMessages } from "./messages.ts";
import { readBody } from "./readBody.ts";
import { loadedModel } from "./respond.ts";
import { respondList } from "./respondList.ts";
import type { ServedModel } from "./servedModel.ts";

const tokenizeBody = z.looseObject({
  content: z.string(),
  add_special: z.boolean().nullish(),
  parse_special: z.boolean().nullish(),
  with_pieces: z.boolean().nullish(),
});

const detokenizeBody = z.looseObject({
  tokens: z.custom<readonly number[]>((value) => Array.isArray(value) && value.every(isToken), "it is ids of tokens"),
});

/** `POST /tokenize`, as llama.cpp's server has it. */
export function tokenize(api: Api, c: ApiContext): Promise<Response> {
  return readBody(c.req.raw, tokenizeBody, async ({ content, add_special, parse_special, with_pieces }) => {
    const model = loadedModel(api);
    checkLength(content, model.context, "content");
    const options = { addSpecial: add_special ?? false, parseSpecial: parse_special ?? true };
    const ids = await model.tokenizer.encodeAside(content, options);
    const element = (id: number) => (with_pieces ? { id, piece: pieceOf(model, id) } : id);
    return respondList(c, { name: "tokens", elements: ids, element });
  });
}

/** `POST /detokenize`, as llama.cpp's server has it. */
export function detokenize(api: Api, c: ApiContext): Promise<Response> {
  return readBody(c.req.raw, detokenizeBody, async ({ tokens }) =>
    c.json({ content: await loadedModel(api).tokenizer.decodeAside(tokens) }),
  );
}

/** `POST /apply-template`: the prompt of a conversation, as text. */
export function applyTemplate(api: Api, c: ApiContext): Promise<Response> {
  return readBody(c.req.raw, chatBody, async (body) => {
    const { chat, context } = loadedModel(api);
    checkLength(body.messages, context, "messages");
    const messages = await templateMessages(body.messages);
    return c.json({ prompt: await chat.template.render({ ...templateOptions(body), messages }) });
  });
}

/** Text, or bytes where they are part of a character. */
function pieceOf({ tokenizer }: ServedModel, id: number): string | number[] {
  const bytes = Buffer.from(tokenizer.pieceBytes(id, { special: true }));
  return isUtf8(bytes) ? bytes.toString("utf8") : Array.from(bytes);
}
