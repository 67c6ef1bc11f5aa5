import type { AnswerFormat } from "../answer/format.ts";
import type { CompiledGrammar, GrammarRequest } from "./constraint.ts";
import { parseGbnf } from "./gbnf.ts";
import { Matcher } from "./matcher.ts";
import { compileProgram } from "./program.ts";
import { jsonSchemaGrammar } from "./schema/jsonSchema.ts";
import { type ToolChoice, type ToolDefinition, toolsGrammar } from "./tools.ts";

/** What an answer has to be, as it was asked for. */
export type GrammarSource =
  | ({ readonly kind: "gbnf" } & GrammarRequest)
  | { readonly kind: "schema"; readonly schema: unknown; readonly reasoning?: AnswerFormat["reasoning"] }
  | {
      readonly kind: "tools";
      readonly tools: readonly ToolDefinition[];
      readonly choice: ToolChoice;
      readonly format: AnswerFormat;
      readonly options?: { readonly parallel?: boolean; readonly answer?: unknown };
    };

/**
 * Compiles what was asked for; undefined where nothing is to be held to.
 *
 * @throws StelliumError `GRAMMAR_INVALID`, `SCHEMA_UNSUPPORTED`, `BAD_USAGE` for a call that is demanded and cannot be made
 */
export function compileSource(source: GrammarSource): CompiledGrammar | undefined {
  const request = requestOf(source);
  if (request === undefined) return undefined;
  const program = compileProgram(parseGbnf(request.gbnf));
  new Matcher(program).start();
  return { ...request, program };
}

function requestOf(source: GrammarSource): GrammarRequest | undefined {
  switch (source.kind) {
    case "gbnf": {
      const { kind: _, ...request } = source;
      return request;
    }
    case "schema":
      return { gbnf: jsonSchemaGrammar(source.schema), reasoning: source.reasoning };
    case "tools":
      return toolsGrammar(source.tools, source.choice, source.format, source.options);
  }
}
