import { StelliumError } from "../../errors.ts";
import { type CodePointRange, complementRanges, lastCodePoint } from "./codePoints.ts";
import type { Expression, Rules } from "./expression.ts";

/** Characters that a grammar may have. */
export const longestGrammar = 512 * 1024;
/** Groups within groups; the grammars of schemas have hardly any. */
const deepestGroup = 100;

const escapes: Readonly<Record<string, string>> = {
  ...{ t: "\t", r: "\r", n: "\n", "\\": "\\", '"': '"', "[": "[", "]": "]", "-": "-" },
};
const hexadecimalDigits: Readonly<Record<string, number>> = { x: 2, u: 4, U: 8 };

/**
 * Reads a grammar in llama.cpp's GBNF: `name ::= alternatives`, with literals, character ranges, `.`, groups, `*`, `+`,
 * `?`, `{m}`, `{m,}`, `{m,n}` and `#` comments.
 *
 * @throws StelliumError `GRAMMAR_INVALID` with the line
 */
export function parseGbnf(source: string): Rules {
  if (source.length > longestGrammar) {
    const reason = `it has ${source.length} characters, and at most ${longestGrammar} are allowed`;
    throw new StelliumError("GRAMMAR_INVALID", { reason });
  }
  return new GbnfReader(source).rules();
}

class GbnfReader {
  readonly #source: string;
  #at = 0;

  constructor(source: string) {
    this.#source = source;
  }

  rules(): Rules {
    const rules = new Map<string, Expression>();
    this.#space(true);
    while (this.#at < this.#source.length) {
      const name = this.#name();
      this.#space(false);
      if (!this.#take("::=")) this.#fail("expecting ::=");
      this.#space(true);
      rules.set(name, this.#choice(0));
      if (this.#at < this.#source.length && !this.#match(/\r\n|\r|\n/y)) this.#fail("expecting the end of the line");
      this.#space(true);
    }
    return rules;
  }

  /** Within a group, at a depth above 0, a line may end anywhere. */
  #choice(depth: number): Expression {
    if (depth > deepestGroup) this.#fail(`groups nest deeper than ${deepestGroup}`);
    const parts = [this.#sequence(depth)];
    while (this.#take("|")) {
      this.#space(true);
      parts.push(this.#sequence(depth));
    }
    return parts.length === 1 ? parts[0]! : { kind: "choice", parts };
  }

  #sequence(depth: number): Expression {
    const parts: Expression[] = [];
    for (let part = this.#item(depth); part !== undefined; part = this.#item(depth)) {
      parts.push(this.#repeated(part, depth));
    }
    return parts.length === 1 ? parts[0]! : { kind: "sequence", parts };
  }

  #item(depth: number): Expression | undefined {
    const item = this.#bareItem(depth);
    if (item !== undefined) this.#space(depth > 0);
    return item;
  }

  #bareItem(depth: number): Expression | undefined {
    if (this.#take('"')) return { kind: "text", text: this.#characters('"') };
    if (this.#take("[")) return this.#range();
    if (this.#take(".")) return { kind: "oneOf", ranges: complementRanges([]) };
    if (this.#take("(")) return this.#group(depth);
    if (/[<!]/.test(this.#source[this.#at] ?? "")) this.#fail("tokens by name or number are not supported");
    if (/[*+?{]/.test(this.#source[this.#at] ?? "")) this.#fail("there is nothing to repeat");
    return /[A-Za-z0-9-]/.test(this.#source[this.#at] ?? "") ? { kind: "rule", name: this.#name() } : undefined;
  }

  #group(depth: number): Expression {
    this.#space(true);
    const inner = this.#choice(depth + 1);
    if (!this.#take(")")) this.#fail("expecting )");
    return inner;
  }

  #repeated(item: Expression, depth: number): Expression {
    let part = item;
    let repetitions = 0;
    for (let counts = this.#counts(); counts !== undefined; counts = this.#counts()) {
      const [min, max] = counts;
      if (max < min) this.#fail(`a repetition of at least ${min} and at most ${max}`);
      if (++repetitions > deepestGroup) this.#fail(`repetitions nest deeper than ${deepestGroup}`);
      part = { kind: "repeat", part, min, max };
      this.#space(depth > 0);
    }
    return part;
  }

  #counts(): [min: number, max: number] | undefined {
    if (this.#take("*")) return [0, Infinity];
    if (this.#take("+")) return [1, Infinity];
    if (this.#take("?")) return [0, 1];
    if (this.#source[this.#at] !== "{") return undefined;
    const [, min, comma, max] = this.#match(/\{\s*(\d{1,6})\s*(,?)\s*(\d{0,6})\s*\}/y) ?? this.#fail("expecting {m,n}");
    if (comma === "") return max === "" ? [Number(min), Number(min)] : this.#fail("expecting {m,n}");
    return [Number(min), max === "" ? Infinity : Number(max)];
  }

  #range(): Expression {
    const negated = this.#take("^");
    const ranges: CodePointRange[] = [];
    if (this.#source[this.#at] === "]") this.#fail("a range of no characters");
    while (!this.#take("]")) {
      const first = this.#character();
      const open = this.#source[this.#at] === "-" && this.#source[this.#at + 1] !== "]";
      if (open) this.#at++;
      ranges.push([first, open ? this.#character() : first]);
    }
    return { kind: "oneOf", ranges: negated ? complementRanges(ranges) : ranges };
  }

  #characters(end: string): string {
    const characters: string[] = [];
    while (!this.#take(end)) characters.push(String.fromCodePoint(this.#character()));
    return characters.join("");
  }

  #character(): number {
    const codePoint = this.#source.codePointAt(this.#at);
    if (codePoint === undefined) return this.#fail("it ends within a text or a range");
    this.#at += codePoint > 0xffff ? 2 : 1;
    return codePoint === 0x5c ? this.#escaped() : codePoint;
  }

  #escaped(): number {
    const letter = this.#source[this.#at++] ?? "";
    const plain = escapes[letter];
    if (plain !== undefined) return plain.charCodeAt(0);
    const digits = hexadecimalDigits[letter] ?? this.#fail(`there is no escape \\${letter}`);
    const given = this.#source.slice(this.#at, this.#at + digits);
    const codePoint = new RegExp(`^[0-9a-fA-F]{${digits}}$`).test(given) ? Number.parseInt(given, 16) : Number.NaN;
    if (!(codePoint <= lastCodePoint)) this.#fail(`\\${letter} needs ${digits} hexadecimal digits of a character`);
    this.#at += digits;
    return codePoint;
  }

  #name(): string {
    return (this.#match(/[A-Za-z0-9-]+/y) ?? this.#fail("expecting the name of a rule"))[0];
  }

  /** White space and comments; newlines where they do not end a rule. */
  #space(newlines: boolean): void {
    while (this.#match(newlines ? /[ \t\r\n]+|#[^\r\n]*/y : /[ \t]+|#[^\r\n]*/y));
  }

  #take(text: string): boolean {
    if (!this.#source.startsWith(text, this.#at)) return false;
    this.#at += text.length;
    return true;
  }

  #match(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = this.#at;
    const match = pattern.exec(this.#source);
    if (match !== null) this.#at += match[0].length;
    return match;
  }

  #fail(what: string): never {
    const line = this.#source.slice(0, this.#at).split(/\r\n|\r|\n/).length;
    const found =
      this.#at < this.#source.length ? JSON.stringify(this.#source.slice(this.#at, this.#at + 12)) : "its end";
    throw new StelliumError("GRAMMAR_INVALID", { reason: `${what}, in line ${line} before ${found}` });
  }
}
