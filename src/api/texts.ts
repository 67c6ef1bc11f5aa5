import { isUtf8 } from "node:buffer";
import { z } from "zod";
import { chatBody, templateOptions } from "./chatRequest.ts";
import type { Api, ApiContext } from "./context.ts";
import { checkLength } from "./fields.ts";
import { templateMessage } from "./messages.ts";
import { readBody } from "./readBody.ts";
import { loadedModel } from "./respond.ts";
import type { ServedModel } from "./servedModel.ts";

const tokenizeBody = z.looseObject({
  content: z.string(),
  add_special: z.boolean().nullish(),
  parse_special: z.boolean().nullish(),
  with_pieces: z.boolean().nullish(),
});

const detokenizeBody = z.looseObject({ tokens: z.array(z.int()).max(2 ** 20) });

/** `POST /tokenize`, as llama.cpp's server has it. */
export async function tokenize(api: Api, c: ApiContext): Promise<Response> {
  const body = await readBody(c.req.raw, tokenizeBody);
  const model = loadedModel(api);
  checkLength(body.content, model.context, "content");
  const options = { addSpecial: body.add_special ?? false, parseSpecial: body.parse_special ?? true };
  const ids = Array.from(model.tokenizer.encode(body.content, options));
  return c.json({ tokens: body.with_pieces ? ids.map((id) => ({ id, piece: pieceOf(model, id) })) : ids });
}

/** `POST /detokenize`, as llama.cpp's server has it. */
export async function detokenize(api: Api, c: ApiContext): Promise<Response> {
  const { tokens } = await readBody(c.req.raw, detokenizeBody);
  return c.json({ content: loadedModel(api).tokenizer.decode(tokens) });
}

/** `POST /apply-template`: the prompt of a conversation, as text. */
export async function applyTemplate(api: Api, c: ApiContext): Promise<Response> {
  const body = await readBody(c.req.raw, chatBody);
  const messages = body.messages.map(templateMessage);
  const { template } = loadedModel(api).chat;
  return c.json({ prompt: template.render({ ...templateOptions(body), messages }) });
}

/** Text, or bytes where they are part of a character. */
function pieceOf({ tokenizer }: ServedModel, id: number): string | number[] {
  const bytes = Buffer.from(tokenizer.pieceBytes(id, { special: true }));
  return isUtf8(bytes) ? bytes.toString("utf8") : Array.from(bytes);
}
