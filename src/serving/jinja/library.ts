import * as jinja from "@huggingface/jinja";

// The library's own types do not resolve from ES modules. These are the parts of them that we use.

/** A value of a template. `type` is the name of its class, which the library does not export. */
export interface Value {
  readonly type: string;
  readonly value: unknown;
}

/** A node of a parsed template. */
export interface Node {
  readonly type: string;
  readonly [field: string]: unknown;
}

/** Variables by their names. */
export interface Scope {
  readonly variables: ReadonlyMap<string, Value>;
  /** Makes a variable of any value. Returns what the template sees. */
  set(name: string, value: unknown): Value;
}

/** Every node is evaluated by `evaluate`, those within others as well. */
interface Interpretation {
  evaluate(node: Node | undefined, scope: Scope): Value;
  run(program: Node): Value;
}

export const Environment = jinja.Environment as new () => Scope;
export const Interpreter = jinja.Interpreter as new (scope: Scope) => Interpretation;

/** Throws for a syntax error. */
export function parse(source: string): Node {
  return jinja.parse(jinja.tokenize(source, { lstrip_blocks: true, trim_blocks: true })) as Node;
}
