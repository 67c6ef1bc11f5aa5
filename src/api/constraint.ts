import { z } from "zod";
import { StelliumError } from "../errors.ts";
import { type AnswerFormat, beforeContent } from "../serving/answer/format.ts";
import type { GrammarSource } from "../serving/grammar/compile.ts";
import type { CompiledGrammar } from "../serving/grammar/constraint.ts";
import { refuseUnless } from "./fields.ts";
import type { ServedModel } from "./servedModel.ts";
import type { OfferedTools } from "./tools.ts";

/** Fields that bind an answer to a form. */
export const constraintFields = {
  response_format: z
    .looseObject({
      type: z.string(),
      json_schema: z.looseObject({ schema: z.unknown().optional() }).nullish(),
      /** As llama.cpp's server takes it, without the level between. */
      schema: z.unknown().optional(),
    })
    .nullish(),
  /** In llama.cpp's GBNF. */
  grammar: z.string().nullish(),
};

const constraintBody = z.looseObject(constraintFields);

/** Values of `constraintFields`. */
export type ConstraintBody = z.infer<typeof constraintBody>;

/**
 * What an answer has to be; undefined where it is free. Throws `REQUEST_UNSUPPORTED`, `REQUEST_INVALID`,
 * `GRAMMAR_INVALID`, `SCHEMA_UNSUPPORTED`.
 *
 * @param format - how the model writes calls and reasoning
 */
export async function constraintOf(
  model: ServedModel,
  body: ConstraintBody,
  format: AnswerFormat = {},
  offered?: OfferedTools,
): Promise<CompiledGrammar | undefined> {
  const reasoning = beforeContent(format);
  const gbnf = body.grammar || undefined;
  const schema = wantedSchema(body.response_format);
  const compile = (param: string, source: GrammarSource) => about(param, model.compileGrammar(source));
  if (gbnf !== undefined) {
    refuseUnless(schema === undefined && offered === undefined, "grammar", "it excludes tools and other forms");
    return compile("grammar", { kind: "gbnf", gbnf, reasoning });
  }
  if (offered !== undefined) {
    refuseUnless(
      format.tools !== undefined,
      "tools",
      "the chat template of this model has no calls that are understood",
    );
    const { tools, choice, parallel } = offered;
    return compile("tools", { kind: "tools", tools, choice, format, options: { parallel, answer: schema } });
  }
  return schema === undefined ? undefined : compile("response_format", { kind: "schema", schema, reasoning });
}

/** The JSON schema of an answer; undefined where it is free text. */
function wantedSchema(format: ConstraintBody["response_format"]): unknown {
  switch (format?.type ?? "text") {
    case "text":
      return undefined;
    case "json_object":
      return format?.schema ?? { type: "object" };
    case "json_schema":
      return schemaIn(format);
    default: {
      const reason = `answers are text or JSON, not ${JSON.stringify(format?.type.slice(0, 50))}`;
      throw new StelliumError("REQUEST_UNSUPPORTED", { param: "response_format", reason });
    }
  }
}

function schemaIn(format: ConstraintBody["response_format"]): unknown {
  const schema = format?.json_schema?.schema ?? format?.schema;
  if (schema != null) return schema;
  const param = "response_format.json_schema.schema";
  throw new StelliumError("REQUEST_INVALID", { reason: `${param} is missing`, param });
}

/** Says of which field an error speaks. */
async function about<T>(param: string, action: Promise<T>): Promise<T> {
  try {
    return await action;
  } catch (error) {
    if (!(error instanceof StelliumError)) throw error;
    throw new StelliumError(error.code, { ...error.values, param }, { cause: error });
  }
}
