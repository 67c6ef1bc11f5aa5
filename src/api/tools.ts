import { z } from "zod";
import { StelliumError } from "../errors.ts";
import type { ToolChoice, ToolDefinition } from "../serving/grammar/tools.ts";
import { boundedArray, refuseUnless } from "./fields.ts";

/** A function as a client describes it. */
export const functionTool = z.looseObject({
  name: z.string().regex(/^[\w.-]{1,100}$/, "a name has up to 100 letters, digits, - and ."),
  description: z.string().nullish(),
  parameters: z.record(z.string(), z.unknown()).nullish(),
  strict: z.boolean().nullish(),
});

/** A tool that a client offers. */
const toolSchema = z.looseObject({ type: z.string(), function: functionTool.nullish() });

/** Fields that tell of the client's functions. */
export const toolFields = {
  tools: boundedArray(toolSchema, 512).nullish(),
  tool_choice: z.union([z.string(), z.looseObject({ type: z.string() })]).nullish(),
  parallel_tool_calls: z.boolean().nullish(),
};

const toolBody = z.looseObject(toolFields);

/** Values of `toolFields`. */
export type ToolBody = z.infer<typeof toolBody>;

/** The functions that a model is to be told of, as the client wrote them, and which of them it is to call. */
export interface OfferedTools {
  /** At least one. */
  readonly given: readonly unknown[];
  readonly tools: readonly ToolDefinition[];
  readonly choice: Exclude<ToolChoice, "none">;
  /** Whether there may be several calls in an answer. */
  readonly parallel: boolean;
}

/** Undefined where none is offered. Throws `REQUEST_UNSUPPORTED`, `REQUEST_INVALID`. */
export function offeredTools({ tools, tool_choice, parallel_tool_calls }: ToolBody): OfferedTools | undefined {
  const given = tools ?? [];
  const definitions = given.map(definitionOf);
  const choice = toolChoice(tool_choice);
  if (choice === "none" || (given.length === 0 && choice === "auto")) return undefined;
  const known = typeof choice === "string" ? given.length > 0 : definitions.some(({ name }) => name === choice.name);
  if (!known) {
    const reason = "the tool that is to be called is not among the tools";
    throw new StelliumError("REQUEST_INVALID", { reason, param: "tool_choice" });
  }
  return { given, tools: definitions, choice, parallel: parallel_tool_calls ?? true };
}

function definitionOf({ type, function: given }: z.infer<typeof toolSchema>, index: number): ToolDefinition {
  refuseUnless(type === "function", "tools", "the only tools are functions of the client's");
  if (given != null) return { name: given.name, parameters: given.parameters, strict: given.strict ?? false };
  const param = `tools.${index}.function`;
  throw new StelliumError("REQUEST_INVALID", { reason: `${param} is missing`, param });
}

function toolChoice(choice: ToolBody["tool_choice"]): ToolChoice {
  if (choice == null) return "auto";
  if (choice === "none" || choice === "auto" || choice === "required") return choice;
  const named = typeof choice === "string" ? undefined : (choice["function"] as { name?: unknown } | undefined);
  if (typeof named?.name === "string") return { name: named.name };
  const reason = "it is none, auto, required, or a function by its name";
  throw new StelliumError("REQUEST_UNSUPPORTED", { param: "tool_choice", reason });
}
