import fc from "fast-check";
import { afterAll, beforeAll, expect, it } from "vitest";
import { createTokenConstraint } from "#stellium/serving/grammar/constraint";
import { jsonObjectGrammar } from "#stellium/serving/grammar/json";
import { jsonSchemaGrammar } from "#stellium/serving/grammar/schema/jsonSchema";
import { openTokenizer, type Tokenizer } from "#stellium/serving/tokenizer";
import { model } from "../../cli/stellium.ts";
import { openLlamaGrammars } from "./llamaGrammar.ts";
import { compiled, numbers } from "./walk.ts";

let tokenizer: Tokenizer;
let llama: ReturnType<typeof openLlamaGrammars>;
beforeAll(() => {
  tokenizer = openTokenizer(model);
  llama = openLlamaGrammars(model);
});
afterAll(() => {
  llama[Symbol.dispose]();
  tokenizer.close();
});

/** Tokens that a sequence may go on with. Control tokens are text to libllama, and none of ours. */
async function allowedTokens(constraint: ReturnType<typeof createTokenConstraint>): Promise<boolean[]> {
  const logits = new Float32Array(tokenizer.size);
  try {
    await constraint.mask(logits);
  } catch {
    logits.fill(-Infinity);
  }
  return Array.from(logits, (logit) => logit === 0);
}

/** Tokens of whole characters. Of parts of characters, libllama allows some that UTF-8 does not have. */
function isText(token: number): boolean {
  const text = Buffer.from(tokenizer.pieceBytes(token)).toString();
  return tokenizer.isEog(token) || (text !== "" && !text.includes("\ufffd"));
}

/** Walks along random tokens that are allowed, and compares what is allowed before each. */
async function compare(gbnf: string, seed: number, steps: number): Promise<void> {
  using theirs = llama.create(gbnf);
  const ours = createTokenConstraint(tokenizer, compiled({ gbnf }));
  const random = numbers(seed);
  for (let step = 0; step < steps; step++) {
    const wanted = theirs.allowed();
    const found = await allowedTokens(ours);
    const differing = wanted.flatMap((allowed, token) => (isText(token) && allowed !== found[token] ? [token] : []));
    expect(
      differing.map((token) => tokenizer.text(token)),
      `after ${step} tokens of ${gbnf}`,
    ).toEqual([]);
    const free = found.flatMap((allowed, token) =>
      allowed && isText(token) && !tokenizer.isEog(token) ? [token] : [],
    );
    if (free.length === 0) return;
    const token = free[Math.floor(random() * free.length)]!;
    ours.accept(token);
    theirs.accept(token);
  }
}

const expression = fc.letrec<{ one: string }>((tie) => ({
  one: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    fc.constantFrom('"a"', '"he"', '"the "', "[a-c]", '[^a-m"]', ".", '"é"', "[ -~]", "[α-ω]", '"\\n"', "leaf"),
    fc.array(tie("one"), { minLength: 1, maxLength: 3 }).map((parts) => `(${parts.join(" ")})`),
    fc.array(tie("one"), { minLength: 2, maxLength: 3 }).map((parts) => `(${parts.join(" | ")})`),
    fc.tuple(tie("one"), fc.constantFrom("?", "{2}", "{1,3}")).map(([part, times]) => `(${part})${times}`),
    fc.constantFrom("[a-z ]*", '"x"+', '("," leaf)*'),
  ),
}));

it("allows the tokens that libllama allows, for random grammars", async () => {
  await fc.assert(
    fc.asyncProperty(expression.one, fc.integer(), async (root, seed) => {
      await compare(`root ::= ${root}\nleaf ::= [a-z]+ | "-" leaf "-"\n`, seed, 12);
    }),
    { numRuns: 150 },
  );
});

it("allows the tokens that libllama allows, for JSON and a schema", async () => {
  const node = {
    type: "object",
    properties: { v: { type: "number" }, next: { anyOf: [{ $ref: "#" }, { type: "null" }] } },
  };
  for (let seed = 0; seed < 5; seed++) {
    await compare(jsonObjectGrammar(), seed, 40);
    await compare(jsonSchemaGrammar(node), seed, 40);
  }
});
