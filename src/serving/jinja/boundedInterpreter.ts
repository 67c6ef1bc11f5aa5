import { type CallArguments, growing, requireBounded, requireDivisible, requireOperands, textIn } from "./bounds.ts";
import { Interpreter, type Node, type Scope, type Value } from "./library.ts";

/** A node whose value is known already. */
class Known implements Node {
  readonly [field: string]: unknown;
  readonly type = "Known";
  readonly value: Value;

  constructor(value: Value) {
    this.value = value;
  }
}

/**
 * The library's interpreter, which evaluates every node through `evaluate`. Operands of operations that may make much more
 * of them are evaluated first, and looked at; other results are looked at when they are there. So no operation makes more
 * than `bounds.ts` allows. How many operations there are is bounded by the time that the thread is given.
 */
export class BoundedInterpreter extends Interpreter {
  override evaluate(node: Node | undefined, scope: Scope): Value {
    if (node instanceof Known) return node.value;
    const value = this.#evaluate(node, scope);
    requireBounded(value);
    return value;
  }

  #evaluate(node: Node | undefined, scope: Scope): Value {
    switch (node?.type) {
      case "BinaryExpression":
        return this.#binary(node, scope);
      case "FilterExpression":
        return this.#filter(node, this.evaluate(node["operand"] as Node, scope), scope);
      case "FilterStatement": {
        const operand = this.evaluate({ type: "Program", body: node["body"] }, scope);
        return this.#filter({ ...node, type: "FilterExpression" }, operand, scope);
      }
      case "MemberExpression":
        return this.#member(node, scope);
      default:
        return super.evaluate(node, scope);
    }
  }

  #binary(node: Node, scope: Scope): Value {
    const { value: operator } = node["operator"] as { value: string };
    if (operator === "and" || operator === "or") return super.evaluate(node, scope);
    const left = this.evaluate(node["left"] as Node, scope);
    const right = this.evaluate(node["right"] as Node, scope);
    requireOperands(operator, [left, right]);
    return super.evaluate({ ...node, left: new Known(left), right: new Known(right) }, scope);
  }

  #filter(node: Node, operand: Value, scope: Scope): Value {
    const filter = node["filter"] as Node;
    const calls = filter.type === "CallExpression";
    const { value: name } = (calls ? filter["callee"] : filter) as { value: string };
    const args = (calls ? (filter["args"] as Node[]) : []).map((argument) => this.#known(argument, scope));
    if (Object.hasOwn(growing, name)) growing[name]!(operand, this.#arguments(args, scope));
    const known = { ...node, operand: new Known(operand), filter: calls ? { ...filter, args } : filter };
    return super.evaluate(known, scope);
  }

  /** An argument, evaluated. Some filters look for literals, which are left as they are. */
  #known(node: Node, scope: Scope): Node {
    if (node.type.endsWith("Literal")) return node;
    const field = node.type === "KeywordArgumentExpression" ? "value" : "argument";
    if (!Object.hasOwn(node, field)) return new Known(this.evaluate(node, scope));
    return { ...node, [field]: new Known(this.evaluate(node[field] as Node, scope)) };
  }

  #arguments(nodes: readonly Node[], scope: Scope): CallArguments {
    const positional: Value[] = [];
    const named = new Map<string, Value>();
    for (const node of nodes) {
      const { value } = (node["argument"] ?? node["value"]) as Known;
      if (node.type === "KeywordArgumentExpression") named.set((node["key"] as { value: string }).value, value);
      else if (node.type === "SpreadExpression") positional.push(...(value.value as Value[]));
      else if (node.type === "KeywordSpreadExpression") {
        for (const [name, inner] of value.value as Map<string, Value>) named.set(name, inner);
      } else positional.push(this.evaluate(node, scope));
    }
    return { positional, named };
  }

  /** An element, a slice or a method. */
  #member(node: Node, scope: Scope): Value {
    const object = this.evaluate(node["object"] as Node, scope);
    const given = node["property"] as Node;
    const isSlice = given.type === "SliceExpression";
    if (isSlice) requireDivisible(object);
    const property = node["computed"] && !isSlice ? new Known(this.evaluate(given, scope)) : given;
    const value = super.evaluate({ ...node, object: new Known(object), property }, scope);
    const name = property instanceof Known ? textIn(property.value) : (given["value"] as string);
    const isText = textIn(object) !== undefined;
    return isText && value.type === "FunctionValue" ? checked(object, String(name), value) : value;
  }
}

type Method = (given: Value[], scope: Scope) => Value;

/** A method of a text that looks at what it is called with before it does it. */
function checked(object: Value, name: string, method: Value): Value {
  if (!Object.hasOwn(growing, name)) return method;
  const call: Method = (positional, scope) => {
    growing[name]!(object, { positional, named: new Map() });
    return (method.value as Method)(positional, scope);
  };
  return Object.create(method, { value: { value: call } }) as Value;
}
