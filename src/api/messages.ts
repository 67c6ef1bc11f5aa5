import { setImmediate } from "node:timers/promises";
import { z } from "zod";
import { StelliumError } from "../errors.ts";
import type { ChatMessage } from "../serving/chatTemplate.ts";
import { JsonBounds, parseJson } from "../serving/json.ts";
import { boundedArray } from "./fields.ts";

/** Parts of a message, and calls in it. */
const mostParts = 10_000;

const part = z.looseObject({ type: z.string(), text: z.string().nullish() });

const content = z.union([z.string(), boundedArray(part, mostParts)]).nullish();

const toolCall = z.looseObject({
  id: z.string().nullish(),
  type: z.string().nullish(),
  function: z.looseObject({ name: z.string(), arguments: z.union([z.string(), z.record(z.string(), z.unknown())]) }),
});

/** A message of a conversation, as clients send it. */
export const messageSchema = z.looseObject({
  role: z.enum(["system", "developer", "user", "assistant", "tool", "function"]),
  content,
  tool_calls: boundedArray(toolCall, mostParts).nullish(),
  reasoning_content: z.string().nullish(),
  reasoning: z.string().nullish(),
});

/** A message that has the right shape. */
export type RequestMessage = z.infer<typeof messageSchema>;

/** A part or text of a message's content. */
export type RequestContent = z.infer<typeof content>;

/** Kinds of parts that are text. */
const textParts: ReadonlySet<string> = new Set(["text", "input_text", "output_text", "reasoning_text", "refusal"]);

/** The messages as templates want them. Throws `REQUEST_UNSUPPORTED` for content that is no text. */
export async function templateMessages(messages: readonly RequestMessage[]): Promise<ChatMessage[]> {
  const changed: ChatMessage[] = [];
  for (const [index, message] of messages.entries()) changed.push(await templateMessage(message, index));
  return changed;
}

async function templateMessage(message: RequestMessage, index: number): Promise<ChatMessage> {
  const { role, content: given, tool_calls: calls, reasoning_content, reasoning, ...rest } = message;
  const thought = reasoning_content ?? reasoning;
  const called = calls != null && calls.length > 0;
  return {
    ...rest,
    // Models were taught to call their instructions the system's.
    role: role === "developer" ? "system" : role,
    content: given == null && called ? null : textOf(given, `messages.${index}.content`),
    ...(called && { tool_calls: await withParsedArguments(calls) }),
    ...(thought != null && { reasoning_content: thought }),
  };
}

/** The text of a message's content. Throws `REQUEST_UNSUPPORTED` for a part that is none. */
export function textOf(given: RequestContent, param: string): string {
  if (typeof given === "string") return given;
  return (given ?? []).map((element) => partText(element, param)).join("\n");
}

function partText({ type, text, ...rest }: z.infer<typeof part>, param: string): string {
  const said = text ?? rest["refusal"];
  if (textParts.has(type) && typeof said === "string") return said;
  const reason = `this server takes text, not ${JSON.stringify(type.slice(0, 50))}`;
  throw new StelliumError("REQUEST_UNSUPPORTED", { param, reason });
}

/** Clients send the arguments as a text that holds JSON; templates write the JSON themselves. */
async function withParsedArguments(calls: readonly z.infer<typeof toolCall>[]): Promise<unknown[]> {
  const changed: unknown[] = [];
  for (const call of calls) {
    const { arguments: given } = call.function;
    const value = typeof given === "string" ? await parsed(given) : given;
    changed.push({ ...call, function: { ...call.function, arguments: value } });
  }
  return changed;
}

/** Elements and fields of arguments. More are left as the text that they are. */
const mostArguments = 4096;
/** Characters that are parsed without letting other things run. */
const shortArguments = 1000;

async function parsed(text: string): Promise<unknown> {
  const bounds = new JsonBounds();
  bounds.add(Buffer.from(text));
  if (bounds.excess !== undefined || bounds.values > mostArguments) return text;
  if (text.length > shortArguments) await setImmediate();
  try {
    const value = await parseJson(text);
    return typeof value === "object" && value !== null ? value : text;
  } catch {
    return text;
  }
}
