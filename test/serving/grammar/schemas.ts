import fc from "fast-check";

/** A schema of the kinds that `schemas` makes. */
export type Schema = Readonly<Record<string, unknown>>;

const name = fc.oneof(
  fc.constantFrom("a", "b", "city", "a b", "é", 'quo"te', "back\\slash", ""),
  fc.string({ maxLength: 4 }),
);
const scalar = fc.oneof(
  fc.constantFrom<unknown>(null, true, false, 0, -7, 2.5, "", "x", 'a"b\n'),
  fc.string({ maxLength: 5 }),
);
const range = (most: number) =>
  fc.tuple(fc.integer({ min: -most, max: most }), fc.nat(most)).map(([low, width]) => [low, low + width] as const);

/** Random schemas of what is supported, without references. */
export const schemas: fc.Arbitrary<Schema> = fc.letrec<{ any: Schema }>((tie) => ({
  any: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    fc.constantFrom<Schema>(
      { type: "string" },
      { type: "boolean" },
      { type: "null" },
      { type: "number" },
      { type: "integer" },
    ),
    fc.uniqueArray(scalar, { minLength: 1, maxLength: 4 }).map((values) => ({ enum: values })),
    scalar.map((value) => ({ const: value })),
    range(200).map(([minimum, maximum]) => ({ type: "integer", minimum, maximum })),
    range(2000).map(([low, high]) => ({ type: "number", minimum: low / 100, maximum: high / 100 })),
    range(6).map(([low, high]) => ({ type: "string", minLength: Math.max(0, low), maxLength: Math.max(0, high) })),
    fc.constant({ type: ["string", "null"], maxLength: 3 }),
    fc
      .record({ properties: fc.dictionary(name, tie("any"), { maxKeys: 4 }), part: fc.nat(15), more: fc.boolean() })
      .map(object),
    tie("any").map((values) => ({ type: "object", additionalProperties: values })),
    fc.tuple(tie("any"), range(4)).map(([items, [low, high]]) => ({
      type: "array",
      items,
      minItems: Math.max(0, low),
      maxItems: Math.max(0, high),
    })),
    fc
      .array(tie("any"), { minLength: 1, maxLength: 3 })
      .map((prefixItems) => ({ type: "array", prefixItems, items: false })),
    fc.array(tie("any"), { minLength: 1, maxLength: 3 }).map((anyOf) => ({ anyOf })),
  ),
})).any;

function object({
  properties,
  part,
  more,
}: {
  properties: Record<string, Schema>;
  part: number;
  more: boolean;
}): Schema {
  const required = Object.keys(properties).filter((_, i) => (part >> i) & 1);
  return { type: "object", properties, required, additionalProperties: more };
}

interface Keywords {
  anyOf?: Schema[];
  enum?: unknown[];
  const?: unknown;
  type?: string | string[];
}

/** Whether a value matches a schema: the definitions, written down as they read. */
export function matches(schema: Schema, value: unknown): boolean {
  const { anyOf, enum: values, const: constant, type } = schema as Keywords;
  if (anyOf && !anyOf.some((one) => matches(one, value))) return false;
  if (values && !values.some((one) => JSON.stringify(one) === JSON.stringify(value))) return false;
  if (constant !== undefined && JSON.stringify(constant) !== JSON.stringify(value)) return false;
  if (type && ![type].flat().includes(typeOf(value)) && !(type === "number" && typeOf(value) === "integer"))
    return false;
  if (typeof value === "number") return within(schema, "minimum", "maximum", value);
  if (typeof value === "string") return within(schema, "minLength", "maxLength", [...value].length);
  if (Array.isArray(value)) return matchesArray(schema, value);
  return typeof value === "object" && value !== null ? matchesObject(schema, value as Record<string, unknown>) : true;
}

function typeOf(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  return Number.isInteger(value) ? "integer" : typeof value;
}

function within(schema: Schema, low: string, high: string, value: number): boolean {
  return value >= Number(schema[low] ?? -Infinity) && value <= Number(schema[high] ?? Infinity);
}

function matchesArray(schema: Schema, value: unknown[]): boolean {
  const { prefixItems = [], items } = schema as { prefixItems?: Schema[]; items?: Schema | false };
  if (!within(schema, "minItems", "maxItems", value.length)) return false;
  const rest = value.slice(prefixItems.length);
  if (items === false && rest.length > 0) return false;
  const first = prefixItems.every((one, i) => i >= value.length || matches(one, value[i]));
  return first && (!items || rest.every((element) => matches(items, element)));
}

function matchesObject(schema: Schema, value: Record<string, unknown>): boolean {
  const {
    properties = {},
    required = [],
    additionalProperties = true,
  } = schema as {
    properties?: Record<string, Schema>;
    required?: string[];
    additionalProperties?: Schema | boolean;
  };
  if (!required.every((name) => Object.hasOwn(value, name))) return false;
  return Object.entries(value).every(([name, member]) => {
    if (Object.hasOwn(properties, name)) return matches(properties[name]!, member);
    return typeof additionalProperties === "boolean" ? additionalProperties : matches(additionalProperties, member);
  });
}
