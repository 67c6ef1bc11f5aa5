import { type CodePointRange, complementRanges } from "../codePoints.ts";
import { anyOf, type GbnfWriter, literal, oneOf } from "../gbnfWriter.ts";
import { requireObject, type SchemaObject, unsupported } from "./keywords.ts";

/** What the parts of a schema need of the whole. */
export interface SchemaContext {
  readonly writer: GbnfWriter;
  /** The expression of a schema. */
  visit(schema: unknown, path: string): string;
}

interface Property {
  readonly member: string;
  readonly required: boolean;
}

/**
 * Objects with their properties in the order of the schema. Properties beyond those come last, where the schema says
 * what they are; where it says nothing of them, there are none unless it names no properties at all.
 */
export function objectExpression(context: SchemaContext, schema: SchemaObject, path: string): string {
  const named = requireObject(schema.properties ?? {}, `${path}/properties`);
  const required = requiredOf(schema, path);
  const names = [...new Set([...Object.keys(named), ...required])];
  const additional = schema.additionalProperties ?? names.length === 0;
  const more = additionalMember(context, schema, names, path);
  if (names.length === 0 && additional === true && schema.propertyNames === undefined) return "object";
  const properties = names.map((name): Property => {
    if (!Object.hasOwn(named, name) && additional === false && schema.additionalProperties !== undefined) {
      throw unsupported(`${path}/required`, `it names ${JSON.stringify(name)}, which is no property`);
    }
    const [value, at] = Object.hasOwn(named, name)
      ? [named[name], `${path}/properties/${name}`]
      : [schema.additionalProperties ?? true, `${path}/additionalProperties`];
    const member = `${literal(JSON.stringify(name))} ":" ws ${context.visit(value, at)}`;
    return { member: context.writer.add(name, member), required: required.includes(name) };
  });
  return context.writer.add("object", membersBody(context.writer, properties, more));
}

function requiredOf({ required = [] }: SchemaObject, path: string): readonly string[] {
  if (Array.isArray(required) && required.every((name) => typeof name === "string")) return required;
  throw unsupported(`${path}/required`, "it is not an array of texts");
}

/** The rule of one more property; undefined if there are none. Its name is no known one. */
function additionalMember(context: SchemaContext, schema: SchemaObject, names: readonly string[], path: string) {
  const additional = schema.additionalProperties ?? names.length === 0;
  const name = additional === false ? undefined : nameOfMore(context, schema, names, path);
  if (name === undefined) return undefined;
  return context.writer.add("member", `${name} ":" ws ${context.visit(additional, `${path}/additionalProperties`)}`);
}

function nameOfMore(context: SchemaContext, schema: SchemaObject, names: readonly string[], path: string) {
  if (schema.propertyNames === undefined) {
    return names.length === 0 ? "string" : `"\\"" ${otherThan(context.writer, names, `${path}/properties`)} "\\""`;
  }
  const at = `${path}/propertyNames`;
  const rule: SchemaObject = requireObject(schema.propertyNames, at);
  if (names.length === 0) return context.visit({ type: "string", ...rule }, at);
  const allowed = Array.isArray(rule.enum) ? rule.enum : [];
  if (!names.every((name) => allowed.includes(name)))
    throw unsupported(at, "it is no enum that has all named properties");
  const left = allowed.filter((name) => !names.includes(name));
  return left.length === 0 ? undefined : context.visit({ ...rule, type: "string", enum: left }, at);
}

/** Before the first property, and behind one, each property may or must come next. */
function membersBody(writer: GbnfWriter, properties: readonly Property[], more: string | undefined): string {
  let first: string | undefined = more === undefined ? undefined : `${more} ("," ws ${more})*`;
  let rest = more === undefined ? '""' : `("," ws ${more})*`;
  let mayBeEmpty = true;
  for (const { member, required } of [...properties].reverse()) {
    const start = `${member} ${rest}`;
    first = writer.add("first", required || first === undefined ? start : `${start} | ${first}`);
    rest = writer.add("rest", `"," ws ${member} ${rest}${required ? "" : ` | ${rest}`}`);
    mayBeEmpty &&= !required;
  }
  if (first === undefined) return '"{" ws "}"';
  return mayBeEmpty ? `"{" ws (${first} ws)? "}"` : `"{" ws ${first} ws "}"`;
}

/** Names by their first characters. */
interface Branch {
  readonly next: Map<string, Branch>;
  isName: boolean;
}

/** Characters that JSON does not spell as they are. */
const special: readonly CodePointRange[] = [
  [0, 0x1f],
  ...([
    [0x22, 0x22],
    [0x5c, 0x5c],
    [0x7f, 0x7f],
    [0xd800, 0xdfff],
  ] as const),
];
const longestName = 200;

/** Characters, none of them escaped, that are not one of some names. */
function otherThan(writer: GbnfWriter, names: readonly string[], path: string): string {
  const root: Branch = { next: new Map(), isName: false };
  for (const name of names) {
    if (name.length > longestName) throw unsupported(path, `a name is longer than ${longestName} characters`);
    let branch = root;
    for (const character of name) {
      if (!branch.next.has(character)) branch.next.set(character, { next: new Map(), isName: false });
      branch = branch.next.get(character)!;
    }
    branch.isName = true;
  }
  return ruleOfBranch(writer, root, writer.add("plain", `${oneOf(complementRanges(special))}*`));
}

function ruleOfBranch(writer: GbnfWriter, { next, isName }: Branch, plain: string): string {
  const spelled = [...next].filter(([character]) => JSON.stringify(character).length === character.length + 2);
  const known = spelled.map(([character]): CodePointRange => [character.codePointAt(0)!, character.codePointAt(0)!]);
  const parts = [
    ...(isName ? [] : ['""']),
    ...spelled.map(([character, branch]) => `${literal(character)} ${ruleOfBranch(writer, branch, plain)}`),
    `${oneOf(complementRanges([...special, ...known]))} ${plain}`,
  ];
  return writer.add("other", anyOf(parts));
}
