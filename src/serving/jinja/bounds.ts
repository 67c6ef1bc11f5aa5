import { Environment, type Scope, type Value } from "./library.ts";

/**
 * The most that one operation of a template may make. It is far beyond what conversations need, and small enough for V8:
 * where a single allocation is much larger than what is left of a thread's heap, V8 ends the whole process.
 */
const most = {
  /** Characters of a text. */
  text: 2 ** 21,
  /** Characters of a text that is taken apart into characters or words. */
  dividedText: 2 ** 19,
  /** Elements of a list, and places where a text is cut or replaced. */
  list: 2 ** 17,
  /** Columns of an indentation; characters of a format, or of an attribute's path. */
  argument: 1000,
} as const;

/** Throws where `count` passes the limit. @param what - such as `a text of # characters` */
export function requireAtMost(count: number, limit: keyof typeof most, what: string): void {
  if (!(count <= most[limit]))
    throw new Error(`${what.replace("#", String(count))}; at most ${most[limit]} are allowed`);
}

/** The text of a value that is one. */
export function textIn(value: Value | undefined): string | undefined {
  return value?.type === "StringValue" ? (value.value as string) : undefined;
}

/** Whether a value has other values in it. */
function isContainer(value: Value | undefined): boolean {
  return value !== undefined && (Array.isArray(value.value) || value.value instanceof Map);
}

/** Throws for a text or list that is too long. The first element of an empty list is undefined. */
export function requireBounded(value: Value | undefined): void {
  const text = textIn(value);
  if (text !== undefined) requireAtMost(text.length, "text", "a text of # characters");
  else if (Array.isArray(value?.value)) requireAtMost(value.value.length, "list", "a list of # elements");
}

/** Throws for a text that is too long to be taken apart. */
export function requireDivisible(value: Value): void {
  requireAtMost(textIn(value)?.length ?? 0, "dividedText", "taking apart a text of # characters");
}

/**
 * Throws where a value is too long as JSON. A list may hold another one many times: it is short in memory, and as text it
 * would be endless.
 *
 * @param perElement - characters added to each element at a depth: separators and indentation
 * @param factor - characters that one character may become
 */
function requireShortJson(value: Value, perElement: (depth: number) => number = () => 2, factor = 1): void {
  let characters = 0;
  const add = (count: number) => {
    characters += count * factor;
    if (characters > most.text) throw new Error(`JSON of more than ${most.text} characters`);
  };
  const visit = (part: Value | undefined, depth: number): void => {
    // At least 1: a walk through what has no length would have no end.
    add(1 + lengthOf(part) + perElement(depth));
    if (!isContainer(part)) return;
    const inner = part!.value as Value[] | Map<string, Value>;
    if (inner instanceof Map) for (const key of inner.keys()) add(key.length);
    for (const child of inner.values()) visit(child, depth + 1);
  };
  visit(value, 0);
}

/** Values of each class of container. */
function containers(): Value[] {
  const environment = new Environment();
  const namespace = environment.variables.get("namespace")!.value as (given: Value[], scope: Scope) => Value;
  return [environment.set("list", []), environment.set("object", {}), namespace([], environment)];
}

// The library calls this method wherever a container becomes a part of a text.
for (const container of containers()) {
  const prototype = Object.getPrototypeOf(container) as Value;
  const write = prototype.toString;
  prototype.toString = function (this: Value) {
    requireShortJson(this);
    return write.call(this);
  };
}

/** Throws where an operator would write out lists and objects that are too long as text. */
export function requireOperands(operator: string, operands: readonly Value[]): void {
  const count = operands.filter(isContainer).length;
  const writes = operator === "~" ? count > 0 : count === 1 && /^(\+|==|!=)$/.test(operator);
  if (writes) for (const operand of operands) requireShortJson(operand);
}

/** What a filter or method is called with. */
export interface CallArguments {
  readonly positional: readonly (Value | undefined)[];
  readonly named: ReadonlyMap<string, Value | undefined>;
}

/** Throws where an operation would make too much of its operand. */
type Check = (operand: Value, given: CallArguments) => void;

/**
 * Filters, and methods of texts, whose result may be much larger than their operand. What others make is about as large at
 * most, and is looked at afterwards.
 */
export const growing: Readonly<Record<string, Check>> = {
  tojson: (operand, { named }) => {
    const indent = integer(named.get("indent"), 0);
    requireAtMost(indent, "argument", "an indentation of # columns");
    const separators = named.get("separators")?.value;
    const separator = Array.isArray(separators) ? separators.reduce((sum, text) => sum + lengthOf(text), 0) : 0;
    const factor = named.get("ensure_ascii")?.value === true ? "\\u0000".length : 1;
    requireShortJson(operand, (depth) => 2 + separator + indent * depth, factor);
  },
  string: (operand) => requireShortJson(operand),
  join: (operand, { positional, named }) => {
    const separator = lengthOf(positional[0] ?? named.get("separator"));
    requireDivisible(operand);
    if (textIn(operand) === undefined) requireShortJson(operand, () => separator);
    else requireAtMost(lengthOf(operand) * (1 + separator), "text", "a text of # characters");
  },
  replace: (operand, { positional: [old, replacement] }) => {
    const added = occurrences(operand, textIn(old) ?? "") * lengthOf(replacement);
    requireAtMost(lengthOf(operand) + added, "text", "a text of # characters");
  },
  indent: (operand, { positional, named }) => {
    const width = integer(positional[0] ?? named.get("width"), 4);
    requireAtMost(width, "argument", "an indentation of # columns");
    requireAtMost(lengthOf(operand) + (occurrences(operand, "\n") + 1) * width, "text", "a text of # characters");
  },
  split: (operand, { positional: [separator] }) => {
    const cut = textIn(separator);
    if (cut === undefined) requireDivisible(operand);
    else occurrences(operand, cut);
  },
  title: requireDivisible,
  map: requirePath,
  sort: requirePath,
};

function requirePath(_: Value, { positional, named }: CallArguments): void {
  requireAtMost(lengthOf(named.get("attribute") ?? positional[2]), "argument", "a path of # characters");
}

function lengthOf(value: Value | undefined): number {
  return textIn(value)?.length ?? 0;
}

function integer(value: Value | undefined, otherwise: number): number {
  return value?.type === "IntegerValue" ? (value.value as number) : otherwise;
}

/** How often `part` occurs in a text. Throws for more than a list may have elements. */
function occurrences(value: Value, part: string): number {
  const text = textIn(value) ?? "";
  let count = part === "" ? text.length + 1 : 0;
  requireAtMost(count, "list", "cutting a text at # places");
  for (let at = part === "" ? -1 : text.indexOf(part); at >= 0; at = text.indexOf(part, at + part.length)) {
    requireAtMost(++count, "list", "cutting a text at # places");
  }
  return count;
}
