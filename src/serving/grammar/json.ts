import { GbnfWriter } from "./gbnfWriter.ts";

const hex = "[0-9a-fA-F]";

/**
 * The rules of JSON by their names. White space is bounded, so that a model cannot go on with nothing else; a character
 * is one code point, spelled as it is or escaped; numbers are within the range of a double.
 */
export const jsonRules = {
  ws: '(" " | "\\n" [ \\t]{0,20})?',
  hex4: `[0-9abcefABCEF] ${hex}{3} | [dD] [0-7] ${hex}{2} | [dD] [89abAB] ${hex}{2} "\\\\u" [dD] [c-fC-F] ${hex}{2}`,
  char: '[^"\\\\\\x00-\\x1f\\x7f] | "\\\\" (["\\\\/bfnrt] | "u" hex4)',
  string: '"\\"" char* "\\""',
  integer: '"-"? ("0" | [1-9] [0-9]{0,15})',
  number: 'integer ("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,2})?',
  boolean: '"true" | "false"',
  null: '"null"',
  member: 'string ":" ws value',
  object: '"{" ws (member ("," ws member)* ws)? "}"',
  array: '"[" ws (value ("," ws value)* ws)? "]"',
  value: "object | array | string | number | boolean | null",
} as const;

/** A grammar that has the rules of JSON and nothing else yet. */
export function jsonWriter(): GbnfWriter {
  const writer = new GbnfWriter();
  for (const [name, body] of Object.entries(jsonRules)) writer.set(name, body);
  return writer;
}

/** The grammar of any JSON object. */
export function jsonObjectGrammar(): string {
  const writer = jsonWriter();
  writer.set("root", "object");
  return writer.toString();
}
