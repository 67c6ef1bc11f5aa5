import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type CodePointRange, complementRanges, utf8Sequences } from "#stellium/serving/grammar/codePoints";
import { acceptor } from "./acceptor.ts";
import { compiled } from "./walk.ts";

const invalid = (reason: string) =>
  expect.objectContaining({ code: "GRAMMAR_INVALID", message: expect.stringContaining(reason) });

/** A regular expression in both notations. */
interface Pair {
  gbnf: string;
  expression: string;
}

const pairs = fc.letrec<{ pair: Pair }>((tie) => ({
  pair: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    fc.constantFrom<Pair>(
      { gbnf: '"a"', expression: "a" },
      { gbnf: '"b\\n"', expression: "b\\n" },
      { gbnf: "[a-c]", expression: "[a-c]" },
      { gbnf: '[^a\\n"]', expression: '[^a\\n"]' },
      { gbnf: "[-α-ω\\]]", expression: "[-α-ω\\]]" },
      { gbnf: ".", expression: "[^]" },
      { gbnf: '"\\u00e9😀"', expression: "é😀" },
      { gbnf: '""', expression: "" },
    ),
    fc.array(tie("pair"), { maxLength: 3 }).map((parts) => joined(parts, " ", "")),
    fc.array(tie("pair"), { minLength: 2, maxLength: 3 }).map((parts) => joined(parts, " | # or\n", "|")),
    fc
      .tuple(tie("pair"), fc.constantFrom("*", "+", "?", "{2}", "{1,}", "{0,3}"))
      .map(([{ gbnf, expression }, times]) => ({
        gbnf: `(${gbnf})${times}`,
        expression: `(?:${expression})${times}`,
      })),
  ),
})).pair;

function joined(parts: Pair[], gbnf: string, expression: string): Pair {
  return {
    gbnf: `(${parts.map((part) => part.gbnf).join(gbnf)})`,
    expression: `(?:${parts.map((part) => part.expression).join(expression)})`,
  };
}

describe("a grammar", () => {
  it("matches what a regular expression of the same meaning matches", () => {
    const texts = fc.array(fc.string({ unit: fc.constantFrom(..."abc\n-]γé😀d"), maxLength: 8 }), { maxLength: 30 });
    fc.assert(
      fc.property(pairs, texts, ({ gbnf, expression }, tried) => {
        const accepts = acceptor(`root ::= ${gbnf}\n`);
        const whole = new RegExp(`^(?:${expression})$`, "u");
        for (const text of ["", "a", "ab\n", "é😀", ...tried]) {
          expect(accepts(text), `${JSON.stringify(text)} by ${gbnf}`).toBe(whole.test(text));
        }
      }),
      { numRuns: 500 },
    );
  });

  it("follows rules that call themselves", () => {
    const accepts = acceptor('root ::= item ("," item)*\nitem ::= "x" | "(" root? ")"\n');
    for (const text of ["x", "()", "(x,(),((x)))", `${"(".repeat(5000)}${")".repeat(5000)}`])
      expect(accepts(text)).toBe(true);
    for (const text of ["", "x,", "(", "(x))", "(x,)"]) expect(accepts(text)).toBe(false);
  });

  it("follows a rule that ends with itself for as long as it goes on", () => {
    const accepts = acceptor('root ::= [ab] root | "."\n');
    expect(accepts(`${"ab".repeat(100_000)}.`)).toBe(true);
  });

  it("may have comments, empty lines, any newlines, and alternatives on lines of their own", () => {
    const accepts = acceptor('\r\n# a\r\nroot ::= # b\n  one |\n  "2" # c\r\rone ::= ( "1"\n | "uno" )\n\n');
    expect(["1", "2", "uno", "3"].map(accepts)).toEqual([true, true, true, false]);
  });
});

describe("UTF-8 of a range", () => {
  it("is that of its code points, and of nothing else", () => {
    const codePoint = fc.oneof(
      fc.nat(0x10ffff),
      fc.constantFrom(0, 0x7f, 0x80, 0x7ff, 0x800, 0xd7ff, 0xe000, 0xffff, 0x10000),
    );
    fc.assert(
      fc.property(codePoint, codePoint, fc.array(codePoint), (a, b, tried) => {
        const range: CodePointRange = [Math.min(a, b), Math.max(a, b)];
        const sequences = utf8Sequences(range);
        for (const one of [...tried, a, b, range[0] - 1, range[1] + 1]) {
          if (one < 0 || one > 0x10ffff || (one >= 0xd800 && one <= 0xdfff)) continue;
          const bytes = [...Buffer.from(String.fromCodePoint(one))];
          const fits = (ranges: CodePointRange[]) =>
            ranges.length === bytes.length && ranges.every(([low, high], i) => low <= bytes[i]! && bytes[i]! <= high);
          expect(sequences.some(fits), `${one} in ${range}`).toBe(one >= range[0] && one <= range[1]);
        }
      }),
      { numRuns: 500 },
    );
    expect(utf8Sequences([0xd800, 0xdfff])).toEqual([]);
    expect(complementRanges([[1, 0x10ffff]])).toEqual([]);
  });
});

describe("is refused with GRAMMAR_INVALID:", () => {
  it.each([
    ["", "there is no rule root"],
    ['start ::= "a"', "there is no rule root"],
    ["root ::= missing", "there is no rule missing"],
    ['root ::= "a', "it ends within"],
    ["root ::= [a", "it ends within"],
    ["root ::= []", "no characters"],
    ["root := 3", "expecting ::="],
    ["::= 3", "expecting the name"],
    ['root ::= ("a"', "expecting )"],
    ['root ::= "a")', "expecting the end of the line"],
    ["root ::= * ", "nothing to repeat"],
    ['root ::= "a"{x}', "{m,n}"],
    ['root ::= "a"{3,2}', "at least 3 and at most 2"],
    ['root ::= "\\q"', "no escape \\q"],
    ['root ::= "\\xZZ"', "hexadecimal"],
    ['root ::= "\\U00110000"', "hexadecimal"],
    ['root ::= "\\', "no escape"],
    ["root ::= <think>", "not supported"],
    ['root ::= "a" root', "has no end"],
    ['root ::= "\\ud800"', "has no end"],
    ['root ::= root "a" | "b"', "left recursion"],
    ['root ::= a root "x" | "y"\na ::= b\nb ::= ""', "left recursion"],
    ['root ::= "x" | a\na ::= c b\nb ::= "x"\nc ::= "y"? a?', "left recursion"],
    [`root ::= ${"(".repeat(60_000)}"a"${")".repeat(60_000)}`, "nest deeper"],
    [`root ::= "a"${"*".repeat(60_000)}`, "nest deeper"],
    [`root ::= "${"a".repeat(60_000)}"{1999}`, "expand to more"],
    [`root ::= ((("a"{999}){999}){999}){999}`, "expand to more"],
    [`root ::= "${"a".repeat(600_000)}"`, "at most"],
  ])("%.40s", (gbnf, reason) => {
    expect(() => compiled({ gbnf })).toThrow(invalid(reason));
  });

  it("anything else, for any text", () => {
    const letters = fc.constantFrom(
      ...'root ::= "a" | ( ) * + ? { } , 2 [ ] ^ - \\ x # \n . é'.split(" "),
      "root",
      "::=",
      "\n",
    );
    fc.assert(
      fc.property(fc.array(letters, { maxLength: 30 }), fc.boolean(), (words, begun) => {
        const gbnf = `${begun ? "root ::= " : ""}${words.join(words.length % 2 ? "" : " ")}`;
        try {
          compiled({ gbnf });
        } catch (error) {
          expect(error).toMatchObject({ code: "GRAMMAR_INVALID" });
        }
      }),
      { numRuns: 3000 },
    );
  });
});

describe("takes bounded work", () => {
  /** Rules of which each calls the next twice. */
  const chain = (call: (next: string) => string) =>
    `${Array.from({ length: 40 }, (_, i) => `${i ? `r${i}` : "root"} ::= ${call(`r${i + 1}`)}`).join("\n")}\nr40 ::= "a"`;

  it("for many ways to the same", () => {
    const accepts = acceptor(chain((next) => `${next} | ${next}`));
    expect([accepts("a"), accepts("b")]).toEqual([true, false]);
    expect(acceptor('root ::= ((((("a"?)*)*)*)*)*')("a".repeat(10_000))).toBe(true);
    expect(acceptor('root ::= (((""{99999}){99999}){99999}) "b"')("b")).toBe(true);
  });

  it("for exponentially many readings of the beginning", () => {
    expect(() => compiled({ gbnf: chain((next) => `${next} "x" | ${next} "y"`) })).toThrow(invalid("too many ways"));
  });

  it("for exponentially many readings of a text", () => {
    const accepts = acceptor('root ::= "a" root "b" | "a" root "c" | "d"');
    expect(accepts("aaadbcb")).toBe(true);
    expect(() => accepts("a".repeat(60))).toThrow(invalid("too many ways"));
  });
});
