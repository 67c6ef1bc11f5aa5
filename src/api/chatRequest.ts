import { z } from "zod";
import { type AnswerFormat, answerFormat, visibleMarkers } from "../serving/answer/format.ts";
import { type AnswerParser, createAnswerParser } from "../serving/answer/parser.ts";
import { type ChatOptions, encodeChat } from "../serving/encodeChat.ts";
import type { GenerationRequest } from "../serving/generation.ts";
import type { SamplingParameters } from "../serving/samplingParameters.ts";
import { constraintFields, constraintOf } from "./constraint.ts";
import {
  boundedArray,
  checkLength,
  generationFields,
  refuseUnless,
  requestedSampling,
  stopsOf,
  tokenLimit,
} from "./fields.ts";
import { messageSchema, templateMessages } from "./messages.ts";
import type { ServedModel } from "./servedModel.ts";
import { offeredTools, toolFields } from "./tools.ts";

/** Body of a chat request. Fields that are not here are accepted, and mean nothing. */
export const chatBody = z.looseObject({
  ...generationFields,
  ...constraintFields,
  ...toolFields,
  messages: boundedArray(messageSchema, 10_000).refine(({ length }) => length > 0, "there has to be a message"),
  max_completion_tokens: generationFields.max_tokens,
  logprobs: z.boolean().nullish(),
  top_logprobs: z.int().min(0).max(20).nullish(),
  reasoning_effort: z.string().max(50).nullish(),
  chat_template_kwargs: z.record(z.string(), z.unknown()).nullish(),
  modalities: boundedArray(z.string(), 10).nullish(),
  store: z.boolean().nullish(),
});

/** A chat request that has the right shape. */
export type ChatBody = z.infer<typeof chatBody>;

/** What is to be generated for a chat request, and what reads the answer. */
export interface ChatJob {
  readonly request: GenerationRequest;
  readonly parser: AnswerParser;
}

/** What a chat request asks for. Throws what is wrong with it, before anything is computed. */
export async function chatJob(model: ServedModel, body: ChatBody, defaults: SamplingParameters): Promise<ChatJob> {
  checkChat(body);
  const offered = offeredTools(body);
  const prompt = await chatPrompt(model, body);
  const format = formatOf(model, prompt, offered !== undefined);
  const limit = body.max_completion_tokens ?? body.max_tokens;
  const request = {
    prompt,
    maxTokens: tokenLimit(limit, prompt.length, model.context),
    sampling: requestedSampling(body, defaults, model.tokenizer.size),
    stop: [...stopsOf(body), ...model.chat.stop],
    ignoreEos: body.ignore_eos ?? false,
    logprobs: body.logprobs ? (body.top_logprobs ?? 0) : undefined,
    grammar: await constraintOf(model, body, format, offered),
    visible: visibleMarkers(format),
  };
  return { request, parser: createAnswerParser(format) };
}

/** What is to be looked for in an answer: calls where functions are offered, and reasoning, which a prompt may open. */
function formatOf({ chat, tokenizer }: ServedModel, prompt: Int32Array, offered: boolean): AnswerFormat {
  const last = Array.from(prompt.subarray(-8), (token) => tokenizer.pieceBytes(token, { special: true }));
  const { tools, ...format } = answerFormat(chat.source, Buffer.concat(last).toString("utf8"));
  return offered ? { tools, ...format } : format;
}

/** The prompt of a conversation. Throws `TEMPLATE_FAILED`, `CONTEXT_EXCEEDED`. */
async function chatPrompt(model: ServedModel, body: ChatBody): Promise<Int32Array> {
  checkLength(body.messages, model.context, "messages");
  const messages = await templateMessages(body.messages);
  return encodeChat(model, model.chat.template, messages, templateOptions(body));
}

/** What a chat request tells the template besides its messages. */
export function templateOptions(body: ChatBody): ChatOptions {
  const effort = body.reasoning_effort == null ? {} : { reasoning_effort: body.reasoning_effort };
  const tools = offeredTools(body)?.given;
  return { addGenerationPrompt: true, tools, extra: { ...effort, ...body.chat_template_kwargs } };
}

function checkChat(body: ChatBody): void {
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
