import { type CodePointRange, complementRanges, lastCodePoint, normalizeRanges } from "../codePoints.ts";
import { anyOf, literal, oneOf } from "../gbnfWriter.ts";

/** Characters a pattern may have, and groups within groups. */
const [longestPattern, deepestGroup] = [4000, 50];

const digit: CodePointRange[] = [[0x30, 0x39]];
const word: CodePointRange[] = [...digit, [0x41, 0x5a], [0x5f, 0x5f], [0x61, 0x7a]];
const space: CodePointRange[] = [
  [9, 13],
  [0x20, 0x20],
  [0xa0, 0xa0],
  [0x1680, 0x1680],
  [0x2000, 0x200a],
  [0x2028, 0x2029],
];
const wideSpace: CodePointRange[] = [...space, [0x202f, 0x202f], [0x205f, 0x205f], [0x3000, 0x3000], [0xfeff, 0xfeff]];
const classes: Readonly<Record<string, CodePointRange[]>> = {
  d: digit,
  w: word,
  s: wideSpace,
  D: complementRanges(digit),
  W: complementRanges(word),
  S: complementRanges(wideSpace),
};
const lineEnds: CodePointRange[] = [
  [10, 10],
  [13, 13],
  [0x2028, 0x2029],
];
const controls: Readonly<Record<string, number>> = { n: 10, r: 13, t: 9, f: 12, v: 11 };

/** Characters that JSON spells with a backslash; of the other control characters none are written. */
const escaped: readonly (readonly [codePoint: number, spelled: string])[] = [
  ...([
    [0x22, '\\"'],
    [0x5c, "\\\\"],
    [8, "\\b"],
    [9, "\\t"],
    [10, "\\n"],
    [12, "\\f"],
    [13, "\\r"],
  ] as const),
];
const notPlain: CodePointRange[] = [
  [0, 0x1f],
  [0x22, 0x22],
  [0x5c, 0x5c],
  [0x7f, 0x7f],
  [0xd800, 0xdfff],
];

/** Why a pattern cannot be followed. */
export class PatternUnsupported extends Error {}

/**
 * The JSON strings, without their quotes, that match a regular expression of ECMAScript: literals, classes, groups,
 * alternatives and quantifiers, with `^` and `$` at the ends of alternatives only.
 *
 * @throws PatternUnsupported for anything else
 */
export function patternCharacters(pattern: string): string {
  if (pattern.length > longestPattern) throw new PatternUnsupported(`it is longer than ${longestPattern} characters`);
  return new PatternReader(pattern).whole();
}

class PatternReader {
  readonly #characters: string[];
  #at = 0;

  constructor(pattern: string) {
    this.#characters = [...pattern];
  }

  whole(): string {
    const alternatives: string[] = [];
    do {
      const start = this.#take("^") ? [] : ["char*"];
      const parts = this.#sequence(0);
      alternatives.push([...start, ...parts, ...(this.#take("$") ? [] : ["char*"])].join(" "));
    } while (this.#take("|"));
    if (this.#at < this.#characters.length) this.#refuse(this.#peek());
    return anyOf(alternatives.map((parts) => (parts === "" ? '""' : parts)));
  }

  #choice(depth: number): string {
    if (depth > deepestGroup) throw new PatternUnsupported(`its groups nest deeper than ${deepestGroup}`);
    const alternatives: string[] = [];
    do alternatives.push(this.#sequence(depth).join(" ") || '""');
    while (this.#take("|"));
    return `(${alternatives.join(" | ")})`;
  }

  #sequence(depth: number): string[] {
    const parts: string[] = [];
    while (this.#at < this.#characters.length && !/[|)$^]/.test(this.#peek())) {
      parts.push(this.#atom(depth) + this.#quantifier());
    }
    return parts;
  }

  #atom(depth: number): string {
    if (this.#take("(")) return this.#group(depth);
    if (this.#take("[")) return jsonCharacter(this.#class());
    if (this.#take(".")) return jsonCharacter(complementRanges(lineEnds));
    if (/[*+?{}\]]/.test(this.#peek())) this.#refuse(this.#peek());
    return jsonCharacter(this.#single());
  }

  #group(depth: number): string {
    if (this.#take("?") && !this.#take(":")) {
      if (!this.#take("<") || /[=!]/.test(this.#peek())) this.#refuse(`(?${this.#peek()}`);
      while (!this.#take(">")) this.#next();
    }
    const inner = this.#choice(depth + 1);
    if (!this.#take(")")) this.#refuse(this.#peek());
    return inner;
  }

  #quantifier(): string {
    const quantifier = this.#take("*") ? "*" : this.#take("+") ? "+" : this.#take("?") ? "?" : this.#counts();
    // What is taken lazily is the same in the end.
    if (quantifier !== "") this.#take("?");
    return quantifier;
  }

  #counts(): string {
    if (!this.#take("{")) return "";
    let counts = "";
    while (!this.#take("}")) counts += this.#next();
    if (!/^\d{1,5}(,(\d{1,5})?)?$/.test(counts)) this.#refuse(`{${counts}}`);
    return `{${counts}}`;
  }

  /** What follows `[`. */
  #class(): CodePointRange[] {
    const negated = this.#take("^");
    const ranges: CodePointRange[] = [];
    while (!this.#take("]")) {
      const first = this.#single();
      const open = this.#peek() === "-" && this.#characters[this.#at + 1] !== "]";
      if (!open) ranges.push(...first);
      else ranges.push(this.#rangeFrom(first));
    }
    return negated ? complementRanges(ranges) : normalizeRanges(ranges);
  }

  #rangeFrom(first: CodePointRange[]): CodePointRange {
    this.#next();
    const last = this.#single();
    const [low, high] = [first[0]?.[0], last[0]?.[0]];
    if (!isCharacter(first) || !isCharacter(last) || low! > high!) this.#refuse("a range");
    return [low!, high!];
  }

  /** A character or a class of one letter. */
  #single(): CodePointRange[] {
    const character = this.#next();
    if (character !== "\\") return only(character.codePointAt(0)!);
    const letter = this.#next();
    if (classes[letter]) return classes[letter];
    if (controls[letter] !== undefined) return only(controls[letter]);
    if (letter === "x" || letter === "u") return only(this.#hexadecimal(letter));
    if (/[A-Za-z0-9]/.test(letter)) this.#refuse(`\\${letter}`);
    return only(letter.codePointAt(0)!);
  }

  #hexadecimal(letter: "x" | "u"): number {
    let given = "";
    if (letter === "u" && this.#take("{")) while (!this.#take("}")) given += this.#next();
    else for (let i = 0; i < (letter === "x" ? 2 : 4); i++) given += this.#next();
    const codePoint = /^[0-9a-fA-F]{1,6}$/.test(given) ? Number.parseInt(given, 16) : Number.NaN;
    return codePoint <= lastCodePoint ? codePoint : this.#refuse(`\\${letter}${given}`);
  }

  #peek(): string {
    return this.#characters[this.#at] ?? "";
  }

  #next(): string {
    return this.#characters[this.#at++] ?? this.#refuse("its end");
  }

  #take(character: string): boolean {
    if (this.#peek() !== character) return false;
    this.#at++;
    return true;
  }

  #refuse(what: string): never {
    throw new PatternUnsupported(`${what} at character ${this.#at + 1} is not supported`);
  }
}

/** How JSON spells one character of some. */
function jsonCharacter(ranges: readonly CodePointRange[]): string {
  const outside = complementRanges([...complementRanges(ranges), ...notPlain]);
  const has = (codePoint: number) => ranges.some(([first, last]) => first <= codePoint && codePoint <= last);
  const spelled = escaped.filter(([codePoint]) => has(codePoint)).map(([, text]) => literal(text));
  const parts = [...(outside.length > 0 ? [oneOf(outside)] : []), ...spelled];
  if (parts.length === 0) throw new PatternUnsupported("it has a class of characters that text cannot have");
  return anyOf(parts);
}

function isCharacter(ranges: readonly CodePointRange[]): boolean {
  return ranges.length === 1 && ranges[0]![0] === ranges[0]![1];
}

function only(codePoint: number): CodePointRange[] {
  return [[codePoint, codePoint]];
}
