import { StelliumError } from "../../errors.ts";
import { type CodePointRange, utf8Sequences } from "./codePoints.ts";
import type { Expression, Rules } from "./expression.ts";
import { operation, type Program } from "./instructions.ts";
import { requireFinite } from "./programChecks.ts";

/** Instructions a grammar may expand to: some 10 MB while it is in use. */
const mostInstructions = 1 << 18;

/**
 * Translates what `root` needs. Throws `GRAMMAR_INVALID` for a rule that is not there, that calls itself before
 * anything else (left recursion) or never ends, and for a grammar that expands to too much.
 */
export function compileProgram(rules: Rules, root = "root"): Program {
  const compiler = new Compiler(rules);
  const program = compiler.compile(root);
  requireFinite(program, compiler.names);
  return program;
}

class Compiler {
  readonly #rules: Rules;
  readonly #operations: number[] = [];
  readonly #first: number[] = [];
  readonly #second: number[] = [];
  readonly #numbers = new Map<string, number>();

  constructor(rules: Rules) {
    this.#rules = rules;
  }

  compile(root: string): Program {
    const entries: number[] = [];
    this.#number(root);
    // Rules that are called while others are compiled are added to the end.
    for (const name of this.#numbers.keys()) {
      entries.push(this.#operations.length);
      this.#expression(this.#rules.get(name)!);
      this.#emit(operation.return);
    }
    return {
      operations: Uint8Array.from(this.#operations),
      first: Int32Array.from(this.#first),
      second: Int32Array.from(this.#second),
      entries: Int32Array.from(entries),
    };
  }

  /** Of the rules that are compiled, by their numbers. */
  get names(): readonly string[] {
    return [...this.#numbers.keys()];
  }

  #number(name: string): number {
    if (!this.#rules.has(name)) throw new StelliumError("GRAMMAR_INVALID", { reason: `there is no rule ${name}` });
    if (!this.#numbers.has(name)) this.#numbers.set(name, this.#numbers.size);
    return this.#numbers.get(name)!;
  }

  #expression(expression: Expression): void {
    switch (expression.kind) {
      case "text":
        this.#text(expression.text);
        break;
      case "oneOf":
        this.#alternatives(expression.ranges.flatMap(utf8Sequences), (bytes) => this.#bytes(bytes));
        break;
      case "rule":
        this.#emit(operation.call, this.#number(expression.name));
        break;
      case "sequence":
        for (const part of expression.parts) this.#expression(part);
        break;
      case "choice":
        this.#alternatives(expression.parts, (part) => this.#expression(part));
        break;
      case "repeat":
        this.#repeat(expression.part, expression.min, expression.max);
        break;
      default:
        expression satisfies never;
    }
  }

  /** Surrogates alone have no UTF-8. */
  #text(text: string): void {
    if (/\p{Surrogate}/u.test(text)) this.#emit(operation.fail);
    for (const byte of Buffer.from(text)) this.#emit(operation.byte, byte, byte);
  }

  #bytes(ranges: readonly CodePointRange[]): void {
    for (const [first, last] of ranges) this.#emit(operation.byte, first, last);
  }

  #alternatives<T>(parts: readonly T[], emitPart: (part: T) => void): void {
    const ends: number[] = [];
    for (const part of parts.slice(0, -1)) {
      const split = this.#emit(operation.split, this.#here + 1);
      emitPart(part);
      ends.push(this.#emit(operation.jump));
      this.#second[split] = this.#here;
    }
    if (parts.length > 0) emitPart(parts.at(-1)!);
    else this.#emit(operation.fail);
    for (const end of ends) this.#first[end] = this.#here;
  }

  #repeat(part: Expression, min: number, max: number): void {
    for (let i = 0; i < min; i++) {
      const before = this.#here;
      this.#expression(part);
      // Nothing any number of times is nothing.
      if (this.#here === before) return;
    }
    if (max === Infinity) this.#loop(part);
    else this.#optional(part, max - min);
  }

  #loop(part: Expression): void {
    const split = this.#emit(operation.split, this.#here + 1);
    this.#expression(part);
    this.#emit(operation.jump, split);
    this.#second[split] = this.#here;
  }

  #optional(part: Expression, most: number): void {
    const splits: number[] = [];
    for (let i = 0; i < most; i++) {
      splits.push(this.#emit(operation.split, this.#here + 1));
      this.#expression(part);
    }
    for (const split of splits) this.#second[split] = this.#here;
  }

  get #here(): number {
    return this.#operations.length;
  }

  #emit(code: number, first = 0, second = 0): number {
    if (this.#here === mostInstructions) {
      const reason = `its repetitions and ranges expand to more than ${mostInstructions} instructions`;
      throw new StelliumError("GRAMMAR_INVALID", { reason });
    }
    this.#first.push(first);
    this.#second.push(second);
    return this.#operations.push(code) - 1;
  }
}
