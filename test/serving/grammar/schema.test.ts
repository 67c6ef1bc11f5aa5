import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { jsonObjectGrammar } from "#stellium/serving/grammar/json";
import { jsonSchemaGrammar } from "#stellium/serving/grammar/schema/jsonSchema";
import { openTokenizer, type Tokenizer } from "#stellium/serving/tokenizer";
import { model } from "../../cli/stellium.ts";
import { acceptor } from "./acceptor.ts";
import { matches, schemas } from "./schemas.ts";
import { compiled, write } from "./walk.ts";

let tokenizer: Tokenizer;
beforeAll(() => {
  tokenizer = openTokenizer(model);
});
afterAll(() => tokenizer.close());

const refused = (path: string, reason = "") =>
  expect.objectContaining({ code: "SCHEMA_UNSUPPORTED", message: expect.stringMatching(`at ${path}: .*${reason}`) });

it("makes a model with random logits write what matches, for random schemas", async () => {
  await fc.assert(
    fc.asyncProperty(schemas, fc.integer(), async (schema, seed) => {
      const { text, ended } = await write(tokenizer, { gbnf: jsonSchemaGrammar(schema) }, seed);
      expect(ended, text).toBe(true);
      expect(matches(schema, JSON.parse(text)), `${text} for ${JSON.stringify(schema)}`).toBe(true);
    }),
    { numRuns: 200 },
  );
});

describe("schemas as zod makes them", () => {
  const category = z.object({
    name: z.string(),
    get parts() {
      return z.array(category).max(2);
    },
  });
  const cases: Record<string, z.ZodType> = {
    numbers: z.object({ a: z.int(), b: z.int().min(-3).max(17), c: z.number().min(0).max(1), d: z.number().gt(2.5) }),
    texts: z.object({ a: z.string().min(2).max(5), b: z.string().regex(/^[A-Z]{3}-\d{2,4}$/), c: z.string() }),
    formats: z.object({
      a: z.uuid(),
      b: z.email(),
      c: z.iso.date(),
      d: z.iso.datetime(),
      e: z.ipv4(),
      f: z.iso.time(),
    }),
    choices: z.object({ a: z.enum(["x", "y z"]), b: z.literal(["q", 3, true]), c: z.boolean(), d: z.null() }),
    optional: z.object({ a: z.string().optional(), b: z.number().nullable(), c: z.boolean().nullish() }),
    arrays: z.object({
      a: z.array(z.string()).min(1).max(3),
      b: z.tuple([z.string(), z.number()]),
      c: z.array(z.null()),
    }),
    maps: z.object({ a: z.record(z.string(), z.number()), b: z.record(z.enum(["p", "q"]), z.boolean()) }),
    union: z.union([z.string(), z.object({ a: z.int() })]),
    tagged: z.discriminatedUnion("kind", [
      z.object({ kind: z.literal("a"), n: z.number() }),
      z.object({ kind: z.literal("b"), s: z.string() }),
    ]),
    recursive: category,
    loose: z.looseObject({ a: z.int(), ab: z.null() }),
    anything: z.object({ a: z.any(), b: z.unknown() }),
  };
  it.each(Object.entries(cases))("%s", async (_, schema) => {
    const gbnf = jsonSchemaGrammar(z.toJSONSchema(schema));
    for (let seed = 0; seed < 12; seed++) {
      const { text, ended } = await write(tokenizer, { gbnf }, seed);
      expect(ended, text).toBe(true);
      expect(schema.safeParse(JSON.parse(text)).error, text).toBeUndefined();
    }
  });
});

it("lets through any spelling of JSON that a model may choose", () => {
  const accepts = acceptor(jsonObjectGrammar());
  fc.assert(
    fc.property(
      fc.dictionary(fc.string({ unit: "grapheme" }), fc.jsonValue({ maxDepth: 3 })),
      fc.boolean(),
      (value, wide) => {
        fc.pre(!JSON.stringify(value).includes("\x7f") && !/\d{17}|e[-+]\d{3}|\.\d{17}/.test(JSON.stringify(value)));
        expect(accepts(JSON.stringify(value, undefined, wide ? 2 : undefined)), JSON.stringify(value)).toBe(true);
      },
    ),
  );
  expect(accepts('{"a":"\\u00e9\\ud83d\\ude00\\n\\/"}')).toBe(true);
  for (const wrong of ['{"a":1,}', "{'a':1}", '{"a":01}', '{"a":"\\ud83d"}', '{"a":"\n"}', "[]", '{"a":1}{', "{"]) {
    expect(accepts(wrong), wrong).toBe(false);
  }
});

describe("numbers", () => {
  const integers = fc.integer({ min: -3000, max: 3000 });
  it("are whole numbers within bounds, all of them", () => {
    fc.assert(
      fc.property(integers, integers, fc.array(integers), (a, b, tried) => {
        const [minimum, maximum] = [Math.min(a, b), Math.max(a, b)];
        const accepts = acceptor(jsonSchemaGrammar({ type: "integer", minimum, maximum }));
        for (const value of [...tried, minimum, maximum, minimum - 1, maximum + 1, 0]) {
          expect(accepts(String(value)), `${value} from ${minimum} to ${maximum}`).toBe(
            value >= minimum && value <= maximum,
          );
        }
      }),
    );
  });

  it("are decimal numbers within bounds, all of them", () => {
    const decimals = fc.integer({ min: -4000, max: 4000 }).map((n) => n / 100);
    fc.assert(
      fc.property(decimals, decimals, fc.array(decimals), (a, b, tried) => {
        const [minimum, maximum] = [Math.min(a, b), Math.max(a, b)];
        const accepts = acceptor(jsonSchemaGrammar({ type: "number", minimum, maximum }));
        const edges = [minimum, maximum].flatMap((x) => [x - 0.001, x + 0.001, x]);
        for (const value of [...tried, ...edges]) {
          const rounded = Number(value.toFixed(3));
          const inside = rounded >= minimum && rounded <= maximum;
          expect(accepts(String(rounded)), `${rounded} from ${minimum} to ${maximum}`).toBe(inside);
        }
      }),
    );
  });

  it.each([
    [{ type: "integer", exclusiveMinimum: 2, exclusiveMaximum: 4 }, ["3"], ["2", "4", "3.0"]],
    [{ type: "number", exclusiveMinimum: 0 }, ["0.5", "7", "1e0"].slice(0, 2), ["0", "0.0", "-1"]],
    [{ type: "number", maximum: -1e-7 }, ["-1", "-0.5"], ["0", "0.1", "-0.00000001"]],
    [{ minimum: 1e21 }, ["1000000000000000000001"], ["999999999999999999999"]],
    [{ type: "number", minimum: 0.5, maximum: 0.5 }, ["0.5", "0.50"], ["0.51", "0"]],
  ])("%j", (schema, right, wrong) => {
    const accepts = acceptor(jsonSchemaGrammar(schema));
    for (const text of right) expect(accepts(text), text).toBe(true);
    for (const text of wrong) expect(accepts(text), text).toBe(false);
  });
});

describe("patterns", () => {
  const patterns = [
    ...["^abc$", "^a.c$", "^[a-c]+$", "^(a|bc)*$", "^a{2,3}?b?$", "b", "^a", "c$", "^a$|^b+$", "^\\d+\\.\\d{2}$"],
    ...[
      '^["\\\\]+$',
      "^[^a-z]$",
      "^\\w\\s\\W$",
      "^(?:a(?<n>b))c$",
      "^\\x61\\u0062\\u{63}$",
      "^[\\d.-]+$",
      "^$",
      "^é[α-ω]$",
    ],
  ];
  const texts = fc.string({ unit: fc.constantFrom(...'abcd.1 "\\é\n-γ'), maxLength: 6 });
  it.each(patterns)("%s", (pattern) => {
    const accepts = acceptor(jsonSchemaGrammar({ type: "string", pattern }));
    const expression = new RegExp(pattern, "u");
    fc.assert(
      fc.property(fc.oneof(texts, fc.constantFrom("abc", "aab", "bb", "1.25", "a .", "éγ", "")), (text) => {
        expect(accepts(JSON.stringify(text)), JSON.stringify(text)).toBe(expression.test(text));
      }),
      { numRuns: 300 },
    );
  });

  it.each([
    "(?=a)b",
    "(?!a)",
    "(?<=a)b",
    "\\bword",
    "(a)\\1",
    "a^b",
    "a$b",
    "[b-a]",
    "\\p{L}",
    "(a",
    "a)",
    "a{x}",
    "*",
    "[]",
  ])("refuses %s", (pattern) => {
    expect(() => jsonSchemaGrammar({ properties: { a: { type: "string", pattern } } })).toThrow(
      refused("/properties/a/pattern"),
    );
  });
});

it("keeps names of other properties apart from those it knows", () => {
  const schema = {
    type: "object",
    properties: { a: { type: "null" }, ab: { type: "null" } },
    additionalProperties: true,
  };
  const accepts = acceptor(jsonSchemaGrammar(schema));
  for (const right of ["{}", '{"a":null}', '{"b":1}', '{"a":null,"abc":1,"":2}', '{"ab":null, "aé":[]}']) {
    expect(accepts(right), right).toBe(true);
  }
  for (const wrong of ['{"a":1}', '{"b":1,"a":1}', '{"ab":1}', '{"\\u0061":1}', '{"ab":null,"a":null}']) {
    expect(accepts(wrong), wrong).toBe(false);
  }
});

it.each<[unknown, string, string?]>([
  [{ not: {} }, "/not"],
  [{ properties: { a: { items: { uniqueItems: true } } } }, "/properties/a/items/uniqueItems"],
  [{ type: "wrong" }, "/type"],
  [{ type: [] }, "/type"],
  [{ $ref: "https://example.org/schema" }, "/\\$ref", "within the schema"],
  [{ $ref: "#/$defs/none" }, "#/\\$defs/none", "nowhere"],
  [{ $ref: "#/constructor/name" }, "#/constructor/name", "nowhere"],
  [{ enum: [] }, "/enum"],
  [{ type: "string", enum: [1, null] }, "its root"],
  [{ type: "integer", minimum: 3, maximum: 2 }, "its root", "no number"],
  [{ type: "integer", minimum: 0.2, maximum: 0.8 }, "its root", "no number"],
  [{ type: "number", minimum: "3" }, "/minimum"],
  [{ type: "string", minLength: 3, maxLength: 2 }, "its root"],
  [{ type: "string", maxLength: -1 }, "/maxLength"],
  [{ type: "string", pattern: "^a", maxLength: 3 }, "its root"],
  [{ type: "array", minItems: 3, maxItems: 2 }, "its root"],
  [{ prefixItems: [{}], items: false, minItems: 2 }, "its root"],
  [{ properties: [] }, "/properties"],
  [{ required: "a" }, "/required"],
  [{ required: ["a"], additionalProperties: false }, "/required"],
  [{ allOf: [{}, {}] }, "/allOf"],
  [{ oneOf: [{ type: "string" }, { minLength: 2 }] }, "/oneOf/1", "several branches"],
  [{ anyOf: [{ type: "string" }], type: "number" }, "/anyOf/0/type", "beside"],
  [{ properties: { a: false } }, "/properties/a", "no value"],
  [{ properties: { a: {} }, propertyNames: { enum: ["b"] }, additionalProperties: {} }, "/propertyNames"],
  [null, "its root"],
  [[], "its root"],
  ["string", "its root"],
])("refuses %j, naming the place", (schema, path, reason) => {
  expect(() => jsonSchemaGrammar(schema)).toThrow(refused(path, reason));
});

describe("is bounded", () => {
  it("in depth", () => {
    let schema: unknown = {};
    for (let depth = 0; depth < 10_000; depth++) schema = { items: schema };
    expect(() => jsonSchemaGrammar(schema)).toThrow(refused("/items.*", "nest deeper"));
  });

  it("in size", () => {
    const many = Object.fromEntries(Array.from({ length: 30_000 }, (_, i) => [`property${i}`, { type: "string" }]));
    expect(() => jsonSchemaGrammar({ properties: many })).toThrow(
      expect.objectContaining({ code: "SCHEMA_UNSUPPORTED" }),
    );
    const wide = { type: "string", pattern: "^(([a-é]{999}){999}){999}$" };
    expect(() => compiled({ gbnf: jsonSchemaGrammar(wide) })).toThrow(
      expect.objectContaining({ code: "GRAMMAR_INVALID" }),
    );
  });

  it.each([{ $ref: "#" }, { anyOf: [{ $ref: "#" }, { type: "null" }] }, { items: { $ref: "#" }, minItems: 1 }])(
    "refuses what never ends: %j",
    (schema) => {
      expect(() => compiled({ gbnf: jsonSchemaGrammar(schema) })).toThrow(
        expect.objectContaining({ code: "GRAMMAR_INVALID" }),
      );
    },
  );
});
