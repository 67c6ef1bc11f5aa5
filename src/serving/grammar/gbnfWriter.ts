import { type CodePointRange, normalizeRanges } from "./codePoints.ts";

/** Puts a grammar together, rule by rule. */
export class GbnfWriter {
  readonly #rules = new Map<string, string>();
  #length = 0;

  /** A name that no rule has: `hint` as far as it can be one, and a number. */
  name(hint: string): string {
    const word = hint.replace(/[^A-Za-z0-9]+/g, "-").slice(0, 24);
    const name = `${word === "" || word.startsWith("-") ? "r" : ""}${word}-${this.#rules.size}`;
    this.#rules.set(name, "");
    return name;
  }

  /** Sets the body of a rule. */
  set(name: string, body: string): void {
    this.#length += name.length + body.length + 6;
    this.#rules.set(name, body);
  }

  /** A new rule. Returns its name. */
  add(hint: string, body: string): string {
    const name = this.name(hint);
    this.set(name, body);
    return name;
  }

  /** Characters that the grammar has by now. */
  get length(): number {
    return this.#length;
  }

  toString(): string {
    return [...this.#rules].map(([name, body]) => `${name} ::= ${body}\n`).join("");
  }
}

/** A text that stands for itself. */
export function literal(text: string): string {
  return `"${text.replace(/["\\]/g, "\\$&").replace(/\p{Control}|\p{Surrogate}/gu, escapeUnit)}"`;
}

/** One character of some. */
export function oneOf(ranges: readonly CodePointRange[]): string {
  const spelled = normalizeRanges(ranges).map(([first, last]) =>
    first === last ? spell(first) : `${spell(first)}-${spell(last)}`,
  );
  return `[${spelled.join("")}]`;
}

/** One of some expressions; in brackets where there are several. */
export function anyOf(expressions: readonly string[]): string {
  return expressions.length === 1 ? expressions[0]! : `(${expressions.join(" | ")})`;
}

function escapeUnit(unit: string): string {
  return `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
}

function spell(codePoint: number): string {
  const character = String.fromCodePoint(codePoint);
  return /[A-Za-z0-9 _]/.test(character) ? character : `\\U${codePoint.toString(16).padStart(8, "0")}`;
}
