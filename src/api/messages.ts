import { z } from "zod";
import { StelliumError } from "../errors.ts";
import type { ChatMessage } from "../serving/chatTemplate.ts";

const part = z.looseObject({ type: z.string(), text: z.string().nullish() });

const content = z.union([z.string(), z.array(part)]).nullish();

const toolCall = z.looseObject({
  id: z.string().nullish(),
  type: z.string().nullish(),
  function: z.looseObject({ name: z.string(), arguments: z.union([z.string(), z.record(z.string(), z.unknown())]) }),
});

/** A message of a conversation, as clients send it. */
export const messageSchema = z.looseObject({
  role: z.enum(["system", "developer", "user", "assistant", "tool", "function"]),
  content,
  tool_calls: z.array(toolCall).nullish(),
  reasoning_content: z.string().nullish(),
  reasoning: z.string().nullish(),
});

/** A message that has the right shape. */
export type RequestMessage = z.infer<typeof messageSchema>;

/** A part or text of a message's content. */
export type RequestContent = z.infer<typeof content>;

/** Kinds of parts that are text. */
const textParts: ReadonlySet<string> = new Set(["text", "input_text", "output_text", "reasoning_text", "refusal"]);

/** The message as templates want it. Throws `REQUEST_UNSUPPORTED` for content that is no text. */
export function templateMessage(message: RequestMessage, index: number): ChatMessage {
  const { role, content: given, tool_calls: calls, reasoning_content, reasoning, ...rest } = message;
  const thought = reasoning_content ?? reasoning;
  const called = calls != null && calls.length > 0;
  return {
    ...rest,
    // Models were taught to call their instructions the system's.
    role: role === "developer" ? "system" : role,
    content: given == null && called ? null : textOf(given, `messages.${index}.content`),
    ...(called && { tool_calls: calls.map(withParsedArguments) }),
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
function withParsedArguments(call: z.infer<typeof toolCall>) {
  const { arguments: given } = call.function;
  return { ...call, function: { ...call.function, arguments: typeof given === "string" ? parsed(given) : given } };
}

function parsed(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? value : text;
  } catch {
    return text;
  }
}
