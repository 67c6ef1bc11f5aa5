import { reasonOf, StelliumError } from "../errors.ts";
import type { GrammarSource } from "../serving/grammar/compile.ts";
import type { CompiledGrammar } from "../serving/grammar/constraint.ts";
import { compileGrammar, Sandbox } from "../serving/sandbox/sandbox.ts";
import type { GrammarValues } from "./options.ts";
import { readText } from "./textInput.ts";

/**
 * The grammar that the options give, if any, checked before a model is loaded. Throws `BAD_USAGE` for several,
 * `FILE_UNREADABLE`, `GRAMMAR_INVALID` and `SCHEMA_UNSUPPORTED`.
 */
export async function grammarOf(values: GrammarValues): Promise<CompiledGrammar | undefined> {
  const { grammar, grammarFile, jsonSchema } = values;
  const given = [grammar, grammarFile, jsonSchema].filter((value) => value !== undefined);
  if (given.length === 0) return undefined;
  if (given.length > 1) throw usage("give one of --grammar, --grammar-file and --json-schema");
  const source = jsonSchema === undefined ? undefined : await schemaSource(jsonSchema);
  await using sandbox = new Sandbox();
  return await compileGrammar(sandbox, source ?? { kind: "gbnf", gbnf: grammar ?? (await readText(grammarFile!)) });
}

async function schemaSource(given: string): Promise<GrammarSource> {
  const isFile = !/^\s*[{[]/.test(given);
  const source = isFile ? await readText(given) : given;
  try {
    return { kind: "schema", schema: JSON.parse(source) as unknown };
  } catch (error) {
    const what = isFile ? `the file ${given}` : "--json-schema";
    throw new StelliumError("BAD_USAGE", { detail: `${what} is not JSON: ${reasonOf(error)}` }, { cause: error });
  }
}

function usage(detail: string): StelliumError {
  return new StelliumError("BAD_USAGE", { detail });
}
