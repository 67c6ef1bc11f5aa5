import { StelliumError } from "../../../errors.ts";

/** Keywords that say which values there may be. */
const constraints = [
  ...(["$ref", "type", "enum", "const", "allOf", "anyOf", "oneOf", "nullable"] as const),
  ...(["properties", "required", "additionalProperties", "propertyNames"] as const),
  ...(["items", "prefixItems", "minItems", "maxItems"] as const),
  ...(["minLength", "maxLength", "pattern", "format"] as const),
  ...(["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"] as const),
];

const never = () => false;
const ifEmpty = (value: unknown) => typeof value === "object" && value !== null && Object.keys(value).length === 0;

/** Keywords that no grammar is made of, and what they may say nevertheless. */
const refused = {
  not: never,
  if: never,
  dependentRequired: ifEmpty,
  dependentSchemas: ifEmpty,
  dependencies: ifEmpty,
  patternProperties: ifEmpty,
  unevaluatedProperties: (value: unknown) => typeof value === "boolean",
  unevaluatedItems: (value: unknown) => typeof value === "boolean",
  uniqueItems: (value: unknown) => value === false,
  contains: never,
  multipleOf: never,
  minProperties: (value: unknown) => value === 0,
  maxProperties: never,
  $dynamicRef: never,
  $recursiveRef: never,
};

/** Keywords that matter. All others, such as titles, say nothing about which values there may be. */
export type Keyword = (typeof constraints)[number];

/** A schema that is an object, unchecked. */
export type SchemaObject = Readonly<Partial<Record<Keyword | keyof typeof refused, unknown>>>;

/** The keywords of a schema that matter. Throws `SCHEMA_UNSUPPORTED` for one that cannot be held to. */
export function constraintsOf(schema: SchemaObject, path: string): SchemaObject {
  for (const [keyword, accepts] of Object.entries(refused) as [keyof typeof refused, (value: unknown) => boolean][]) {
    if (!Object.hasOwn(schema, keyword) || accepts(schema[keyword])) continue;
    if (keyword === "multipleOf" && schema.multipleOf === 1 && schema.type === "integer") continue;
    throw unsupported(`${path}/${keyword}`, "this keyword is not supported");
  }
  const present = constraints.filter((keyword) => Object.hasOwn(schema, keyword) && schema[keyword] !== undefined);
  return Object.fromEntries(present.map((keyword) => [keyword, schema[keyword]]));
}

/** Throws `SCHEMA_UNSUPPORTED` for what is not an object. */
export function requireObject(value: unknown, path: string): Readonly<Record<string, unknown>> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw unsupported(path, "it is not an object");
}

/** Throws `SCHEMA_UNSUPPORTED` for what is not an array of at least one. */
export function requireArray(value: unknown, path: string): readonly unknown[] {
  if (Array.isArray(value) && value.length > 0) return value;
  throw unsupported(path, "it is not an array of at least one element");
}

/** A keyword that counts. Throws `SCHEMA_UNSUPPORTED` for what is not a whole number from 0. */
export function wholeNumber(schema: SchemaObject, keyword: Keyword, path: string): number | undefined {
  const value = numberOf(schema, keyword, path);
  if (value === undefined || (Number.isSafeInteger(value) && value >= 0)) return value;
  throw unsupported(`${path}/${keyword}`, "it is not a whole number from 0 up");
}

/** A keyword that is a number. Throws `SCHEMA_UNSUPPORTED` for anything else. */
export function numberOf(schema: SchemaObject, keyword: Keyword, path: string): number | undefined {
  const value = Object.hasOwn(schema, keyword) ? schema[keyword] : undefined;
  if (value === undefined || (typeof value === "number" && Number.isFinite(value))) return value as number | undefined;
  throw unsupported(`${path}/${keyword}`, "it is not a number");
}

/** The error for what a grammar cannot be made of; the path is a JSON pointer. */
export function unsupported(path: string, reason: string): StelliumError {
  return new StelliumError("SCHEMA_UNSUPPORTED", { path: path === "" ? "its root" : path.slice(0, 500), reason });
}
