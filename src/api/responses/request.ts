import { z } from "zod";
import { StelliumError } from "../../errors.ts";
import type { ChatBody } from "../chatRequest.ts";
import { boundedArray, generationFields, refuseUnless } from "../fields.ts";
import { messageSchema, type RequestMessage, textOf } from "../messages.ts";
import { functionTool } from "../tools.ts";

const parts = z.union([
  z.string(),
  boundedArray(z.looseObject({ type: z.string(), text: z.string().nullish() }), 10_000),
]);

const inputItem = z.looseObject({
  type: z.string().nullish(),
  role: messageSchema.shape.role.nullish(),
  content: parts.nullish(),
  call_id: z.string().nullish(),
  name: z.string().nullish(),
  arguments: z.string().nullish(),
  output: parts.nullish(),
});

type InputItem = z.infer<typeof inputItem>;

const tool = z.looseObject({ ...functionTool.partial().shape, type: z.string() });

/** Body of `POST /v1/responses`. Fields that are not here are accepted, and mean nothing. */
export const responsesBody = z.looseObject({
  ...generationFields,
  input: z.union([z.string(), boundedArray(inputItem, 10_000)]),
  instructions: z.string().nullish(),
  max_output_tokens: generationFields.max_tokens,
  top_logprobs: z.int().min(0).max(20).nullish(),
  include: boundedArray(z.string(), 100).nullish(),
  tools: boundedArray(tool, 512).nullish(),
  tool_choice: z.union([z.string(), z.looseObject({ type: z.string() })]).nullish(),
  parallel_tool_calls: z.boolean().nullish(),
  reasoning: z.looseObject({ effort: z.string().max(50).nullish() }).nullish(),
  text: z.looseObject({ format: z.looseObject({ type: z.string() }).nullish() }).nullish(),
  chat_template_kwargs: z.record(z.string(), z.unknown()).nullish(),
  metadata: z.record(z.string(), z.unknown()).nullish(),
  previous_response_id: z.string().nullish(),
  store: z.boolean().nullish(),
  background: z.boolean().nullish(),
  truncation: z.string().nullish(),
});

/** A request of the right shape. */
export type ResponsesBody = z.infer<typeof responsesBody>;

/** The same as a chat request. Throws `REQUEST_UNSUPPORTED`, `REQUEST_INVALID`. */
export function chatOf(body: ResponsesBody): ChatBody {
  checkResponses(body);
  const { input, instructions, tools, tool_choice, text, reasoning, ...rest } = body;
  const items: readonly InputItem[] = typeof input === "string" ? [{ role: "user", content: input }] : input;
  const messages = [
    ...(instructions ? [{ role: "system" as const, content: instructions }] : []),
    ...messagesOf(items),
  ];
  if (messages.length === 0)
    throw new StelliumError("REQUEST_INVALID", { reason: "there is no input", param: "input" });
  const wantsLogprobs = (body.include ?? []).includes("message.output_text.logprobs") || body.top_logprobs != null;
  return {
    ...rest,
    messages,
    max_completion_tokens: body.max_output_tokens,
    store: null,
    logprobs: wantsLogprobs,
    reasoning_effort: reasoning?.effort,
    response_format: text?.format && chatFormat(text.format),
    tools: tools?.map(chatTool),
    tool_choice: chatToolChoice(tool_choice),
  };
}

function checkResponses(body: ResponsesBody): void {
  const stateless = "this server keeps no responses; send the whole conversation as input";
  refuseUnless(body.previous_response_id == null, "previous_response_id", stateless);
  refuseUnless(body["conversation"] == null, "conversation", stateless);
  refuseUnless(body.store !== true, "store", stateless);
  refuseUnless(body["prompt"] == null, "prompt", "this server keeps no prompts");
  refuseUnless(body.background !== true, "background", "the answer is sent while the client waits");
  refuseUnless((body.truncation ?? "disabled") === "disabled", "truncation", "input that is too long is refused");
}

/** Items of one turn of the assistant's (thoughts, text, calls) become one message. */
function messagesOf(items: readonly InputItem[]): RequestMessage[] {
  const messages: RequestMessage[] = [];
  for (const [index, item] of items.entries()) {
    const message = messageOf(item, `input.${index}`);
    const last = messages.at(-1);
    const continues = last?.role === "assistant" && message.role === "assistant" && last.content == null;
    const calls = last?.role === "assistant" && message.role === "assistant" && message.tool_calls != null;
    if (last !== undefined && (continues || calls)) messages[messages.length - 1] = merged(last, message);
    else messages.push(message);
  }
  return messages;
}

/** Adds to the calls of the first, of which there may be thousands. */
function merged(first: RequestMessage, second: RequestMessage): RequestMessage {
  const calls = first.tool_calls ?? [];
  calls.push(...(second.tool_calls ?? []));
  return {
    ...first,
    content: second.content ?? first.content,
    reasoning_content: second.reasoning_content ?? first.reasoning_content,
    ...(calls.length > 0 && { tool_calls: calls }),
  };
}

function messageOf(item: InputItem, param: string): RequestMessage {
  switch (item.type ?? "message") {
    case "message":
      if (item.role == null) throw missing(param, "role");
      return { role: item.role, content: textOf(item.content, `${param}.content`) };
    case "reasoning":
      return { role: "assistant", content: null, reasoning_content: textOf(item.content, `${param}.content`) };
    case "function_call":
      if (item.name == null) throw missing(param, "name");
      return { role: "assistant", content: null, tool_calls: [callOf(item, item.name)] };
    case "function_call_output":
      if (item.call_id == null) throw missing(param, "call_id");
      return { role: "tool", tool_call_id: item.call_id, content: textOf(item.output, `${param}.output`) };
    default: {
      const reason = `this server knows no items of type ${JSON.stringify(item.type?.slice(0, 50))}`;
      throw new StelliumError("REQUEST_UNSUPPORTED", { param, reason });
    }
  }
}

function callOf({ call_id, arguments: given }: InputItem, name: string) {
  return { id: call_id, type: "function", function: { name, arguments: given ?? "{}" } };
}

function missing(param: string, field: string): StelliumError {
  return new StelliumError("REQUEST_INVALID", { reason: `${param}.${field} is missing`, param: `${param}.${field}` });
}

function chatTool({ type, name, ...definition }: z.infer<typeof tool>) {
  return type === "function" && name !== undefined ? { type, function: { ...definition, name } } : { type };
}

function chatToolChoice(choice: ResponsesBody["tool_choice"]) {
  if (typeof choice !== "object" || choice === null || choice.type !== "function") return choice;
  return { type: "function", function: { name: choice["name"] } };
}

function chatFormat({ type, ...format }: { type: string; [field: string]: unknown }) {
  return type === "json_schema" ? { type, json_schema: format } : { type, ...format };
}
