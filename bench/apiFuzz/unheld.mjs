import fc from "fast-check";

/** Forms that no answer can be held to, as clients might ask for them by mistake or to do harm. */

const chain = Array.from({ length: 40 }, (_, i) => `${i ? `r${i}` : "root"} ::= r${i + 1} "x" | r${i + 1} "y"`).join(
  "\n",
);

const grammar = fc.oneof(
  fc.constantFrom('root ::= root "a" | "b"', "root ::= missing", 'root ::= "a" root', `${chain}\nr40 ::= "a"`, "root"),
  fc.integer({ min: 101, max: 50_000 }).map((depth) => `root ::= ${"(".repeat(depth)}"a"${")".repeat(depth)}`),
  fc.integer({ min: 600, max: 1999 }).map((count) => `root ::= (((("a"{${count}}){${count}}){${count}}){${count}})`),
  fc.string().map((text) => `root ::= "${text.replace(/["\\]/g, "")}`),
);

const unfit = fc.oneof(
  fc.jsonValue({ maxDepth: 2 }).map((not) => ({ not })),
  fc.string().map((name) => ({ type: `x${name}` })),
  fc.integer({ min: 1e6 }).map((minLength) => ({ type: "string", minLength })),
  fc.integer({ min: 1e6 }).map((minItems) => ({ type: "array", minItems })),
  fc.constantFrom(
    ...[{ $ref: "#/$defs/none" }, { $ref: "https://x.example" }, { allOf: [{}, {}] }, { enum: [] }],
    ...[
      { type: "string", pattern: "(((" },
      { type: "string", pattern: "(?=a)b" },
      { type: "integer", multipleOf: 3 },
    ],
    ...[{ type: "number", minimum: 2, maximum: 1 }, { oneOf: [{ type: "string" }, { type: "string" }] }, 7, "x", []],
  ),
);

/** At any depth of properties, and of items. */
const schema = fc
  .tuple(unfit, fc.array(fc.boolean(), { maxLength: 80 }))
  .map(([inner, path]) => path.reduce(within, /** @type {unknown} */ (inner)));

/** @param {unknown} inner @param {boolean} isList @returns {unknown} */
function within(inner, isList) {
  return isList ? { type: "array", items: inner } : { properties: { a: inner }, required: ["a"] };
}

const tools = fc.oneof(
  fc.array(fc.record({ type: fc.string(), function: fc.jsonValue({ maxDepth: 2 }) }), { minLength: 1, maxLength: 3 }),
  fc.array(fc.record({ type: fc.constant("function") }), { minLength: 1, maxLength: 3 }),
);

const form = fc.oneof(
  grammar.map((text) => ({ grammar: text })),
  schema.map((value) => ({ response_format: { type: "json_schema", json_schema: { name: "x", schema: value } } })),
  fc.string().map((type) => ({ response_format: { type: `x${type}` } })),
  tools.map((value) => ({ tools: value })),
  fc.string().map((name) => ({ tool_choice: { type: "function", function: { name } } })),
);

/** Fields of a chat request that is right otherwise. */
export const unheldForm = form.map((fields) => ({
  messages: [{ role: "user", content: "Hi" }],
  max_tokens: 2,
  ...fields,
}));
