import { z } from "zod";
import { StelliumError } from "../errors.ts";
import { promptsOf, promptsSchema } from "./completions.ts";
import type { Api, ApiContext } from "./context.ts";
import { refuseUnless } from "./fields.ts";
import { readBody } from "./readBody.ts";
import { loadedModel, requestSignal } from "./respond.ts";
import { respondList } from "./respondList.ts";
import type { ServedModel } from "./servedModel.ts";

const embeddingBody = z.looseObject({
  input: promptsSchema,
  model: z.string().nullish(),
  encoding_format: z.enum(["float", "base64"]).nullish(),
  dimensions: z.int().nullish(),
});

const mostInputs = 2048;

/** `POST /v1/embeddings`: the last hidden states of each input's tokens, pooled as the model says, of length 1. */
export async function embeddings(api: Api, c: ApiContext): Promise<Response> {
  const { model, inputs, encoding } = await readBody(c.req.raw, embeddingBody, (body) => prepare(api, body));
  const vectors = await embedAll(model, inputs, requestSignal(api, c));
  const encode = encoding === "base64" ? base64 : (vector: Float32Array) => Array.from(vector);
  const element = (vector: Float32Array, index: number) => ({ object: "embedding", index, embedding: encode(vector) });
  const tokens = inputs.reduce((sum, { length }) => sum + length, 0);
  const others = { object: "list", model: api.id, usage: { prompt_tokens: tokens, total_tokens: tokens } };
  return respondList(c, { name: "data", elements: vectors, element, others });
}

async function prepare(api: Api, body: z.infer<typeof embeddingBody>) {
  const model = loadedModel(api);
  const { embeddingLength } = model.facts;
  const fits = body.dimensions == null || body.dimensions === embeddingLength;
  refuseUnless(fits, "dimensions", `the model's embeddings have ${embeddingLength} values`);
  const inputs = await promptsOf(model, body.input, mostInputs);
  for (const { length } of inputs) checkFits(model, length);
  return { model, inputs, encoding: body.encoding_format };
}

function checkFits({ context }: ServedModel, prompt: number): void {
  if (prompt > context) throw new StelliumError("CONTEXT_EXCEEDED", { prompt, predict: 0, context, param: "input" });
}

/** Few at a time: a request with many inputs leaves places to others. Where one fails, the others are stopped. */
async function embedAll(model: ServedModel, inputs: readonly Int32Array[], signal: AbortSignal) {
  const vectors: Float32Array[] = [];
  const left = inputs.entries();
  const failure = new AbortController();
  const either = AbortSignal.any([signal, failure.signal]);
  const work = async () => {
    for (const [index, tokens] of left) vectors[index] = await model.embed(tokens, either);
  };
  const workers = Array.from({ length: Math.ceil(model.slots().length / 2) }, work);
  try {
    await Promise.all(workers);
  } finally {
    failure.abort("another input of the request failed");
  }
  return vectors;
}

/** Little-endian 32-bit floats, as OpenAI's clients ask for by themselves. */
function base64(vector: Float32Array): string {
  const bytes = Buffer.alloc(4 * vector.length);
  for (const [i, value] of vector.entries()) bytes.writeFloatLE(value, 4 * i);
  return bytes.toString("base64");
}
