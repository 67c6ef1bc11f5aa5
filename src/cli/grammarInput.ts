import { StelliumError } from "../errors.ts";
import { type GrammarRequest, requireGrammar } from "../serving/grammar/constraint.ts";
import { jsonSchemaGrammar } from "../serving/grammar/schema/jsonSchema.ts";
import type { GrammarValues } from "./options.ts";
import { readText } from "./textInput.ts";

/**
 * The grammar that the options give, if any, checked before a model is loaded. Throws `BAD_USAGE` for several,
 * `FILE_UNREADABLE`, `GRAMMAR_INVALID` and `SCHEMA_UNSUPPORTED`.
 */
export async function grammarOf(values: GrammarValues): Promise<GrammarRequest | undefined> {
  const { grammar, grammarFile, jsonSchema } = values;
  const given = [grammar, grammarFile, jsonSchema].filter((value) => value !== undefined);
  if (given.length === 0) return undefined;
  if (given.length > 1) throw usage("give one of --grammar, --grammar-file and --json-schema");
  const gbnf = jsonSchema === undefined ? (grammar ?? (await readText(grammarFile!))) : await schemaGrammar(jsonSchema);
  requireGrammar(gbnf);
  return { gbnf };
}

async function schemaGrammar(given: string): Promise<string> {
  const isFile = !/^\s*[{[]/.test(given);
  const source = isFile ? await readText(given) : given;
  try {
    return jsonSchemaGrammar(JSON.parse(source));
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    const what = isFile ? `the file ${given}` : "--json-schema";
    throw new StelliumError("BAD_USAGE", { detail: `${what} is not JSON: ${error.message}` }, { cause: error });
  }
}

function usage(detail: string): StelliumError {
  return new StelliumError("BAD_USAGE", { detail });
}
