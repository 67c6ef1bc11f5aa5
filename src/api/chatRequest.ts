import { z } from "zod";
import { type ChatOptions, encodeChat } from "../serving/encodeChat.ts";
import type { GenerationRequest } from "../serving/generation.ts";
import type { SamplingParameters } from "../serving/samplingParameters.ts";
import type { AnswerParser } from "./answer.ts";
import { checkConstraints, constraintFields, offeredTools } from "./constraint.ts";
import { checkLength, generationFields, refuseUnless, samplingOf, stopsOf, tokenLimit } from "./fields.ts";
import { messageSchema, templateMessage } from "./messages.ts";
import type { ServedModel } from "./servedModel.ts";

/** Body of a chat request. Fields that are not here are accepted, and mean nothing. */
export const chatBody = z.looseObject({
  ...generationFields,
  ...constraintFields,
  messages: z.array(messageSchema).min(1).max(10_000),
  max_completion_tokens: generationFields.max_tokens,
  logprobs: z.boolean().nullish(),
  top_logprobs: z.int().min(0).max(20).nullish(),
  reasoning_effort: z.string().max(50).nullish(),
  chat_template_kwargs: z.record(z.string(), z.unknown()).nullish(),
  modalities: z.array(z.string()).nullish(),
  store: z.boolean().nullish(),
});

/** A chat request that has the right shape. */
export type ChatBody = z.infer<typeof chatBody>;

/** What is to be generated for a chat request. Throws what is wrong with it, before anything is computed. */
export function chatGeneration(model: ServedModel, body: ChatBody, defaults: SamplingParameters): GenerationRequest {
  checkChat(body);
  const prompt = chatPrompt(model, body);
  const limit = body.max_completion_tokens ?? body.max_tokens;
  return {
    prompt,
    maxTokens: tokenLimit(limit, prompt.length, model.context),
    sampling: samplingOf(body, defaults),
    stop: [...stopsOf(body), ...model.chat.stop],
    ignoreEos: body.ignore_eos ?? false,
    logprobs: body.logprobs ? (body.top_logprobs ?? 0) : undefined,
  };
}

/** What reads the answer to a chat request. */
export function openAnswer({ chat, tokenizer }: ServedModel, body: ChatBody, prompt: ArrayLike<number>): AnswerParser {
  const last = Array.from(prompt).slice(-8);
  const bytes = last.map((token) => tokenizer.pieceBytes(token, { special: true }));
  const promptEnd = Buffer.concat(bytes).toString("utf8");
  return chat.openAnswer({ tools: offeredTools(body) !== undefined, promptEnd });
}

/** The prompt of a conversation. Throws `TEMPLATE_FAILED`, `CONTEXT_EXCEEDED`. */
export function chatPrompt(model: ServedModel, body: ChatBody): Int32Array {
  const messages = body.messages.map(templateMessage);
  checkLength(JSON.stringify(messages), model.context, "messages");
  return encodeChat(model, model.chat.template, messages, templateOptions(body));
}

/** What a chat request tells the template besides its messages. */
export function templateOptions(body: ChatBody): ChatOptions {
  const effort = body.reasoning_effort == null ? {} : { reasoning_effort: body.reasoning_effort };
  const tools = offeredTools(body);
  return { addGenerationPrompt: true, tools, extra: { ...effort, ...body.chat_template_kwargs } };
}

function checkChat(body: ChatBody): void {
  checkConstraints(body);
  refuseUnless((body.n ?? 1) === 1, "n", "there is one answer to a request");
  refuseUnless(body.store !== true, "store", "nothing is kept");
  refuseUnless(
    (body.modalities ?? []).every((kind) => kind === "text"),
    "modalities",
    "answers are text",
  );
  for (const field of ["audio", "functions", "function_call", "web_search_options"]) {
    refuseUnless(body[field] == null, field, "this server does not have it");
  }
  refuseUnless(body.logprobs === true || !body.top_logprobs, "top_logprobs", "it needs logprobs to be true");
}
