import { StelliumError } from "../../../errors.ts";
import { type SchemaObject, unsupported, wholeNumber } from "./keywords.ts";
import { PatternUnsupported, patternCharacters } from "./patterns.ts";

const date =
  '[0-9]{4} "-" (("0" [13578] | "1" [02]) "-" ("0" [1-9] | [12] [0-9] | "3" [01])' +
  ' | ("0" [469] | "11") "-" ("0" [1-9] | [12] [0-9] | "30") | "02-" ("0" [1-9] | "1" [0-9] | "2" [0-8]))';
const time = '([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{1,6})? "Z"';
const octet = '("25" [0-5] | "2" [0-4] [0-9] | "1" [0-9]{2} | [1-9]? [0-9])';
const label = "[a-z0-9] ([a-z0-9-]{0,30} [a-z0-9])?";
const hex = "[0-9a-f]";

/** Formats that are held to, as characters between the quotes. Of what a format allows, the plainest spellings. */
const formats: Readonly<Record<string, string>> = {
  date,
  time,
  "date-time": `${date} "T" ${time}`,
  duration: '"P" ([0-9]{1,4} "D" ("T" [0-9]{1,4} [HMS])? | "T" [0-9]{1,4} [HMS] | [0-9]{1,4} [YMW])',
  email: `[a-z0-9]{1,32} ([._+-] [a-z0-9]{1,16}){0,3} "@" (${label} "."){1,4} [a-z]{2,12}`,
  hostname: `${label} ("." ${label}){0,5}`,
  ipv4: `${octet} ("." ${octet}){3}`,
  ipv6: `${hex}{1,4} (":" ${hex}{1,4}){7}`,
  uuid: `${hex}{8} "-" ${hex}{4} "-4" ${hex}{3} "-" [89ab] ${hex}{3} "-" ${hex}{12}`,
};

/**
 * Strings of a schema. A pattern is held to, else a format that is known; other formats say nothing. Throws
 * `SCHEMA_UNSUPPORTED`.
 */
export function stringExpression(schema: SchemaObject, path: string): string {
  const characters = patternOrFormat(schema, path);
  const min = wholeNumber(schema, "minLength", path) ?? 0;
  const max = wholeNumber(schema, "maxLength", path);
  const unbounded = min === 0 && max === undefined;
  if (characters !== undefined) {
    if (unbounded) return `"\\"" ${characters} "\\""`;
    throw unsupported(path, "a length together with a pattern or a format");
  }
  if (max !== undefined && max < min) throw unsupported(path, `minLength ${min} is above maxLength ${max}`);
  return unbounded ? "string" : `"\\"" char{${min},${max ?? ""}} "\\""`;
}

function patternOrFormat({ pattern, format }: SchemaObject, path: string): string | undefined {
  const known = typeof format === "string" && Object.hasOwn(formats, format) ? formats[format] : undefined;
  if (pattern === undefined) return known;
  if (typeof pattern !== "string") throw unsupported(`${path}/pattern`, "it is not a text");
  try {
    return patternCharacters(pattern);
  } catch (error) {
    if (!(error instanceof PatternUnsupported)) throw error;
    // Libraries send their own pattern for a format: the plainest spellings match it.
    if (known !== undefined) return known;
    throw new StelliumError("SCHEMA_UNSUPPORTED", { path: `${path}/pattern`, reason: error.message }, { cause: error });
  }
}
