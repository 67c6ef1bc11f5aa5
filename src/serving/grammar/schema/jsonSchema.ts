import { longestGrammar } from "../gbnf.ts";
import { anyOf, type GbnfWriter, literal } from "../gbnfWriter.ts";
import { jsonWriter } from "../json.ts";
import { arrayExpression } from "./arrays.ts";
import { areDisjoint } from "./disjoint.ts";
import {
  constraintsOf,
  type Keyword,
  numberOf,
  requireArray,
  requireObject,
  type SchemaObject,
  unsupported,
} from "./keywords.ts";
import { type Bounds, decimalWithin, integerWithin } from "./numbers.ts";
import { objectExpression, type SchemaContext } from "./objects.ts";
import { stringExpression } from "./strings.ts";

/** Schemas within schemas, and schemas in all. */
const [deepestSchema, mostSchemas] = [64, 20_000];
/** Branches of `oneOf` that are compared with each other. */
const mostBranches = 200;

/**
 * The grammar of the JSON texts that match a schema: all that it lets through does; not all that matches can be
 * written. The subset of JSON Schema is told in docs/structured-output.md.
 *
 * @throws StelliumError `SCHEMA_UNSUPPORTED`, with a JSON pointer, for what cannot be held to
 */
export function jsonSchemaGrammar(schema: unknown): string {
  const writer = jsonWriter();
  writer.set("root", schemaExpression(writer, schema));
  return writer.toString();
}

/**
 * Adds what a schema needs to a grammar that has the rules of JSON. Returns the expression of the values that match.
 *
 * @throws StelliumError `SCHEMA_UNSUPPORTED`
 */
export function schemaExpression(writer: GbnfWriter, schema: unknown): string {
  return new SchemaCompiler(writer, schema).compile();
}

class SchemaCompiler implements SchemaContext {
  readonly writer: GbnfWriter;
  readonly #root: unknown;
  /** Rules of referenced schemas by their pointer, and those that are still to be written. */
  readonly #references = new Map<string, string>();
  readonly #open: string[] = [];
  #count = 0;
  #depth = 0;

  constructor(writer: GbnfWriter, root: unknown) {
    this.writer = writer;
    this.#root = root;
  }

  compile(): string {
    const expression = this.visit(this.#root, "");
    for (let pointer = this.#open.pop(); pointer !== undefined; pointer = this.#open.pop()) {
      this.writer.set(this.#references.get(pointer)!, this.visit(this.#resolve(pointer), pointer));
    }
    return expression;
  }

  visit(schema: unknown, path: string): string {
    if (schema === true) return "value";
    if (schema === false) throw unsupported(path, "no value matches it");
    this.#guard(path);
    this.#depth++;
    const expression = this.#any(constraintsOf(requireObject(schema, path), path), path);
    this.#depth--;
    return expression;
  }

  #guard(path: string): void {
    if (this.#depth >= deepestSchema) throw unsupported(path, `schemas nest deeper than ${deepestSchema}`);
    if (++this.#count > mostSchemas) throw unsupported(path, `there are more than ${mostSchemas} schemas`);
    if (this.writer.length > longestGrammar)
      throw unsupported(path, `its grammar is longer than ${longestGrammar} characters`);
  }

  #any(schema: SchemaObject, path: string): string {
    const { nullable, ...rest } = schema;
    if (nullable === true) return anyOf([this.#any(rest, path), "null"]);
    if (rest.$ref !== undefined) return this.#reference(rest, path);
    if (rest.const !== undefined || rest.enum !== undefined) return constants(rest, path);
    if (rest.allOf !== undefined) return this.#all(rest, path);
    if (rest.anyOf !== undefined) return this.#branches("anyOf", rest, path);
    if (rest.oneOf !== undefined) return this.#branches("oneOf", rest, path);
    if (Array.isArray(rest.type)) return this.#types(rest, path);
    return this.#typed(rest, path);
  }

  #reference({ $ref: pointer, ...others }: SchemaObject, path: string): string {
    if (typeof pointer !== "string" || !/^#(\/|$)/.test(pointer)) {
      throw unsupported(`${path}/$ref`, "only references within the schema, such as #/$defs/name, are followed");
    }
    if (Object.keys(others).length > 0) throw unsupported(path, "$ref together with other keywords");
    if (!this.#references.has(pointer)) {
      this.#resolve(pointer);
      this.#references.set(pointer, this.writer.name(pointer.slice(pointer.lastIndexOf("/") + 1)));
      this.#open.push(pointer);
    }
    return this.#references.get(pointer)!;
  }

  #resolve(pointer: string): unknown {
    let at = this.#root;
    for (const part of pointer.split("/").slice(1)) {
      const name = decodePart(part).replaceAll("~1", "/").replaceAll("~0", "~");
      const has = typeof at === "object" && at !== null && Object.hasOwn(at, name);
      at = has ? (at as Record<string, unknown>)[name] : undefined;
    }
    if (at === undefined) throw unsupported(pointer, "the reference leads nowhere");
    return at;
  }

  #all({ allOf, ...others }: SchemaObject, path: string): string {
    const schemas = requireArray(allOf, `${path}/allOf`);
    if (schemas.length > 1) throw unsupported(`${path}/allOf`, "of several schemas at once");
    return this.visit(merged(others, schemas[0], `${path}/allOf/0`), `${path}/allOf/0`);
  }

  #branches(keyword: "anyOf" | "oneOf", { [keyword]: given, ...others }: SchemaObject, path: string): string {
    const schemas = requireArray(given, `${path}/${keyword}`);
    if (keyword === "oneOf") this.#requireDisjoint(schemas, `${path}/oneOf`);
    const at = (i: number) => `${path}/${keyword}/${i}`;
    return anyOf(schemas.map((schema, i) => this.visit(merged(others, schema, at(i)), at(i))));
  }

  #requireDisjoint(schemas: readonly unknown[], path: string): void {
    if (schemas.length > mostBranches) throw unsupported(path, `more than ${mostBranches} branches`);
    const targets = schemas.map((schema) => this.#target(schema));
    const overlap = targets.findIndex((a, i) => targets.some((b, j) => j < i && !areDisjoint(a, b)));
    if (overlap < 0) return;
    throw unsupported(`${path}/${overlap}`, "a value may match several branches: use anyOf, or a constant property");
  }

  #target(schema: unknown): unknown {
    const { $ref: pointer } = (schema ?? {}) as SchemaObject;
    return typeof pointer === "string" && /^#(\/|$)/.test(pointer) ? this.#resolve(pointer) : schema;
  }

  #types({ type, ...others }: SchemaObject, path: string): string {
    const types = requireArray(type, `${path}/type`);
    return anyOf(types.map((one) => this.#typed({ ...others, type: one }, path)));
  }

  #typed(schema: SchemaObject, path: string): string {
    switch (schema.type ?? impliedType(schema)) {
      case "object":
        return objectExpression(this, schema, path);
      case "array":
        return arrayExpression(this, schema, path);
      case "string":
        return stringExpression(schema, path);
      case "number":
        return bounded(schema, path, "number", decimalWithin);
      case "integer":
        return bounded(schema, path, "integer", integerWithin);
      case "boolean":
        return "boolean";
      case "null":
        return "null";
      case undefined:
        return "value";
      default:
        throw unsupported(`${path}/type`, "there is no such type");
    }
  }
}

/** The type that keywords are of, where none is given. */
function impliedType(schema: SchemaObject): string | undefined {
  const has = (...keywords: Keyword[]) => keywords.some((keyword) => schema[keyword] !== undefined);
  if (has("properties", "required", "additionalProperties", "propertyNames")) return "object";
  if (has("items", "prefixItems", "minItems", "maxItems")) return "array";
  if (has("minLength", "maxLength", "pattern", "format")) return "string";
  return has("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum") ? "number" : undefined;
}

/** Values that are spelled out. Those of another type than the schema's are left out. */
function constants({ const: constant, enum: values, type, ...others }: SchemaObject, path: string): string {
  const [unexpected] = Object.keys(others).filter((keyword) => keyword !== "format");
  if (unexpected !== undefined) throw unsupported(`${path}/${unexpected}`, "together with const or enum");
  const given = constant === undefined ? requireArray(values, `${path}/enum`) : [constant];
  const types = type === undefined ? undefined : [type].flat();
  const left = given.filter((value) => types === undefined || types.some((one) => isOfType(value, one)));
  if (left.length === 0) throw unsupported(path, "no value of const or enum is of the given type");
  return anyOf(left.map((value) => literal(JSON.stringify(value))));
}

function isOfType(value: unknown, type: unknown): boolean {
  if (type === "integer") return Number.isInteger(value);
  if (value === null) return type === "null";
  return Array.isArray(value) ? type === "array" : typeof value === type;
}

function bounded(
  schema: SchemaObject,
  path: string,
  unbounded: string,
  within: (bounds: Bounds) => string | undefined,
): string {
  const bounds = {
    min: numberOf(schema, "minimum", path),
    max: numberOf(schema, "maximum", path),
    above: numberOf(schema, "exclusiveMinimum", path),
    below: numberOf(schema, "exclusiveMaximum", path),
  };
  if (Object.values(bounds).every((bound) => bound === undefined)) return unbounded;
  const expression = within(bounds);
  if (expression !== undefined) return expression;
  throw unsupported(path, "no number is within its bounds");
}

/** A branch with what stands beside it; nothing may be said twice. */
function merged(others: SchemaObject, branch: unknown, path: string): unknown {
  if (Object.keys(others).length === 0) return branch;
  const schema = branch === true ? {} : requireObject(branch, path);
  const twice = Object.entries(others).find(
    ([keyword, value]) => Object.hasOwn(schema, keyword) && JSON.stringify(schema[keyword]) !== JSON.stringify(value),
  );
  if (twice !== undefined) throw unsupported(`${path}/${twice[0]}`, "it is said beside the branch as well");
  return { ...others, ...schema };
}

function decodePart(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
