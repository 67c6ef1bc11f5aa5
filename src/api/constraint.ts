import { z } from "zod";
import { refuseUnless } from "./fields.ts";

/** Fields that bind an answer to a form. */
export const constraintFields = {
  response_format: z.looseObject({ type: z.string() }).nullish(),
  grammar: z.string().nullish(),
  tools: z
    .array(z.looseObject({ type: z.string() }))
    .max(512)
    .nullish(),
  tool_choice: z.union([z.string(), z.looseObject({ type: z.string() })]).nullish(),
  parallel_tool_calls: z.boolean().nullish(),
};

const constraintBody = z.looseObject(constraintFields);

/** Values of `constraintFields`. */
export type ConstraintBody = z.infer<typeof constraintBody>;

/** Throws `REQUEST_UNSUPPORTED` for a form to which answers cannot be bound. */
export function checkConstraints({ response_format, grammar, tools, tool_choice }: ConstraintBody): void {
  const format = response_format?.type ?? "text";
  refuseUnless(format === "text", "response_format", `answers are text, not ${JSON.stringify(format.slice(0, 50))}`);
  refuseUnless(grammar == null || grammar === "", "grammar", "answers cannot be bound to a grammar");
  const kinds = (tools ?? []).map(({ type }) => type);
  refuseUnless(
    kinds.every((type) => type === "function"),
    "tools",
    "the only tools are functions of the client's",
  );
  const free = tool_choice == null || tool_choice === "auto" || tool_choice === "none";
  refuseUnless(free, "tool_choice", "the model itself decides whether it calls a function");
}

/** The functions that the model is to be told of. */
export function offeredTools({ tools, tool_choice }: ConstraintBody): readonly unknown[] | undefined {
  return tool_choice === "none" || tools == null || tools.length === 0 ? undefined : tools;
}
