import type { SchemaObject } from "./keywords.ts";

/** Whether no value can match both schemas, as far as their types and constant properties tell. */
export function areDisjoint(a: unknown, b: unknown): boolean {
  if (!isSchema(a) || !isSchema(b)) return false;
  const [valuesA, valuesB] = [valuesOf(a), valuesOf(b)];
  if (valuesA && valuesB) return !valuesA.some((value) => valuesB.includes(value));
  const [typesA, typesB] = [typesOf(a), typesOf(b)];
  if (typesA && typesB && !typesA.some((type) => typesB.includes(type))) return true;
  return (
    areObjects(typesA, typesB) && requiredOfBoth(a, b).some((name) => areDisjoint(property(a, name), property(b, name)))
  );
}

function isSchema(value: unknown): value is SchemaObject {
  return typeof value === "object" && value !== null;
}

/** The spellings of the only values there are. */
function valuesOf({ const: constant, enum: values }: SchemaObject): string[] | undefined {
  if (constant !== undefined) return [JSON.stringify(constant)];
  return Array.isArray(values) ? values.map((value) => JSON.stringify(value)) : undefined;
}

/** Types, with integers among the numbers. */
function typesOf(schema: SchemaObject): string[] | undefined {
  const values = Array.isArray(schema.enum) ? schema.enum : schema.const === undefined ? undefined : [schema.const];
  if (values) return values.map((value) => (value === null ? "null" : Array.isArray(value) ? "array" : typeof value));
  if (schema.type === undefined || schema.nullable === true) return undefined;
  return [schema.type].flat().map((type) => (type === "integer" ? "number" : String(type)));
}

function areObjects(...types: (string[] | undefined)[]): boolean {
  return types.every((some) => some?.length === 1 && some[0] === "object");
}

function requiredOfBoth(a: SchemaObject, b: SchemaObject): unknown[] {
  const [requiredA, requiredB] = [a.required, b.required];
  return Array.isArray(requiredA) && Array.isArray(requiredB)
    ? requiredA.filter((name) => requiredB.includes(name))
    : [];
}

function property({ properties }: SchemaObject, name: unknown): unknown {
  if (!isSchema(properties) || typeof name !== "string" || !Object.hasOwn(properties, name)) return undefined;
  return (properties as Record<string, unknown>)[name];
}
