import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { answerFormat, beforeContent } from "#stellium/serving/answer/format";
import { createTokenConstraint, type GrammarRequest } from "#stellium/serving/grammar/constraint";
import { jsonObjectGrammar } from "#stellium/serving/grammar/json";
import { createSampler, defaultSampling } from "#stellium/serving/sampler";
import { openTokenizer, type Tokenizer } from "#stellium/serving/tokenizer";
import { model } from "../../cli/stellium.ts";
import { turnsDuring } from "../../turns.ts";
import { compiled, numbers, write } from "./walk.ts";

let tokenizer: Tokenizer;
beforeAll(() => {
  tokenizer = openTokenizer(model);
});
afterAll(() => tokenizer.close());

const encode = (text: string) => tokenizer.encode(text, { addSpecial: false, parseSpecial: false });
const randomLogits = (seed: number) => {
  const random = numbers(seed);
  return Float32Array.from({ length: tokenizer.size }, () => random() * 20 - 10);
};
/** Accepts a text token by token; false where a token is not allowed. */
const goes = (request: GrammarRequest, text: string) => {
  const constraint = createTokenConstraint(tokenizer, compiled(request));
  for (const token of encode(text)) {
    if (!constraint.allows(token)) return false;
    constraint.accept(token);
  }
  return constraint.allows(tokenizer.eos) ? "complete" : true;
};

describe("the mask", () => {
  it("leaves the tokens that are allowed one by one, with their logits", async () => {
    for (let seed = 0; seed < 4; seed++) {
      await write(tokenizer, { gbnf: jsonObjectGrammar() }, seed, {
        most: 40,
        each: async (constraint) => {
          const logits = randomLogits(seed);
          const wanted = logits.map((logit, token) => (constraint.allows(token) ? logit : -Infinity));
          await constraint.mask(logits);
          expect(logits).toEqual(wanted);
        },
      });
    }
  });

  it("is the only thing that greedy sampling looks at", async () => {
    const greedy = { ...defaultSampling, temperature: 0 };
    await fc.assert(
      fc.asyncProperty(fc.integer(), async (seed) => {
        const sampled = createTokenConstraint(tokenizer, compiled({ gbnf: jsonObjectGrammar() }));
        const masked = createTokenConstraint(tokenizer, compiled({ gbnf: jsonObjectGrammar() }));
        const sampler = createSampler(greedy, sampled);
        for (let step = 0; step < 8; step++) {
          const logits = randomLogits(seed + step);
          const before = logits.slice();
          const token = await sampler.sample(logits);
          expect(logits).toEqual(before);
          await masked.mask(logits);
          expect(token).toBe(createSampler(greedy).sample(logits));
          masked.accept(token);
          if (tokenizer.isEog(token)) return;
        }
      }),
      { numRuns: 40 },
    );
  });

  it("gives the distribution of the tokens that are left", async () => {
    const request = { gbnf: 'root ::= [a-d] [^"]*' };
    const logits = new Float32Array(tokenizer.size).fill(-20);
    for (const [text, logit] of Object.entries({ a: 1, b: 0, z: 1, x: 0.5 })) logits[encode(text)[0]!] = logit;
    const parameters = { ...defaultSampling, temperature: 1, topK: 0, topP: 1, minP: 0, seed: 1 };
    const draws = 3000;
    let ofA = 0;
    for (let i = 0; i < draws; i++) {
      const sampler = createSampler({ ...parameters, seed: i }, createTokenConstraint(tokenizer, compiled(request)));
      if ((await sampler.sample(logits)) === encode("a")[0]) ofA++;
    }
    const p = Math.E / (Math.E + 1);
    expect(Math.abs(ofA / draws - p)).toBeLessThan(5 * Math.sqrt((p * (1 - p)) / draws));
  });

  it("lets other things run while it looks at all tokens, whatever that costs", async () => {
    const constraint = createTokenConstraint(tokenizer, compiled({ gbnf: "root ::= ([a-z]?){3000}" }));
    const logits = randomLogits(1);
    expect(await turnsDuring(constraint.mask(logits))).toBeGreaterThan(2);
    expect(logits[encode("a")[0]!]).toBeGreaterThan(-Infinity);
    expect(logits[encode("!")[0]!]).toBe(-Infinity);
  });

  it("fails with GRAMMAR_INVALID where no token is left", async () => {
    const constraint = createTokenConstraint(tokenizer, compiled({ gbnf: 'root ::= "a"' }));
    const logits = new Float32Array(tokenizer.size).fill(-Infinity);
    await expect(constraint.mask(logits)).rejects.toThrow(expect.objectContaining({ code: "GRAMMAR_INVALID" }));
    const sampler = createSampler({ ...defaultSampling, temperature: 0 }, constraint);
    expect(() => sampler.sample(logits)).toThrow(expect.objectContaining({ code: "ENGINE_FAILED" }));
  });
});

describe("a constraint", () => {
  it("allows the end exactly where the grammar is complete", () => {
    const request = { gbnf: 'root ::= "ab" "c"?' };
    expect(["", "a", "ab", "abc"].map((text) => goes(request, text))).toEqual([true, true, "complete", "complete"]);
    expect(goes(request, "abcd")).toBe(false);
    expect(goes({ gbnf: 'root ::= "a"?' }, "")).toBe("complete");
  });

  it("stays where it is at a token that ends a generation", () => {
    const constraint = createTokenConstraint(tokenizer, compiled({ gbnf: 'root ::= "a" "b"?' }));
    constraint.accept(encode("a")[0]!);
    constraint.accept(tokenizer.eos);
    expect(constraint.allows(encode("b")[0]!)).toBe(true);
  });

  it("refuses to go on with a token that is not allowed", () => {
    const constraint = createTokenConstraint(tokenizer, compiled({ gbnf: 'root ::= "a"' }));
    expect(() => constraint.accept(encode("b")[0]!)).toThrow(expect.objectContaining({ code: "GRAMMAR_INVALID" }));
  });

  it("follows characters of which tokens are parts", () => {
    const parts = encode("é😀");
    expect(parts.length).toBeGreaterThan(2);
    expect(goes({ gbnf: "root ::= [à-ë] [😀-😂]" }, "é😀")).toBe("complete");
    expect(goes({ gbnf: "root ::= [à-è] ." }, "é😀")).toBe(false);
  });

  it("takes control tokens for text only where they are to be seen", async () => {
    const request = { gbnf: 'root ::= "<|bos|>" "x" | [^"]*' };
    expect(createTokenConstraint(tokenizer, compiled(request)).allows(tokenizer.bos)).toBe(false);
    const constraint = createTokenConstraint(tokenizer, compiled(request), new Set([tokenizer.bos]));
    const logits = new Float32Array(tokenizer.size);
    await constraint.mask(logits);
    expect(logits[tokenizer.bos]).toBe(0);
    constraint.accept(tokenizer.bos);
    expect(constraint.allows(encode("x")[0]!)).toBe(true);
  });

  it("keeps its memory within bounds, however long the text is", () => {
    const gbnf = 'root ::= node*\nnode ::= "(" node* ")" | [a-z] | [^()a-z]';
    const constraint = createTokenConstraint(tokenizer, compiled({ gbnf }));
    const [open, close, letter] = [encode("(")[0]!, encode(")")[0]!, encode("a")[0]!];
    for (let i = 0; i < 30_000; i++) constraint.accept(i % 3 === 0 ? letter : open);
    for (let i = 0; i < 20_000; i++) constraint.accept(close);
    expect([constraint.allows(close), constraint.allows(tokenizer.eos)]).toEqual([false, true]);
  });
});

describe("triggers", () => {
  const lazy = { gbnf: 'root ::= ("<call>" | "{" ) [0-9]+ "."', triggers: ["<call>", "^{"] };

  it("let anything come before them, and the grammar from them on", () => {
    expect(goes(lazy, "any {text} with <cal, <call")).toBe("complete");
    expect(goes(lazy, "text <call>12")).toBe(true);
    expect(goes(lazy, "text <call>12.")).toBe("complete");
    expect(goes(lazy, "text <call>x")).toBe(false);
    expect(goes(lazy, "text <call>1. more")).toBe(false);
  });

  it("that count at the start only count there, behind white space too", () => {
    expect(goes(lazy, " \n{3")).toBe(true);
    expect(goes(lazy, " {x")).toBe(false);
    expect(goes(lazy, "a {x")).toBe("complete");
  });

  it("are found however the text is cut into tokens", () => {
    const step = (cut: number) => {
      const constraint = createTokenConstraint(tokenizer, compiled(lazy));
      for (const part of ["so ", "<call>1".slice(0, cut), "<call>1".slice(cut)]) {
        for (const token of encode(part)) constraint.accept(token);
      }
      return [constraint.allows(tokenizer.eos), constraint.allows(encode(".")[0]!), constraint.allows(encode("x")[0]!)];
    };
    for (let cut = 0; cut <= 7; cut++) expect(step(cut)).toEqual([false, true, false]);
  });

  it("must be what the grammar begins with", () => {
    const act = (trigger: string) => () =>
      createTokenConstraint(tokenizer, compiled({ gbnf: lazy.gbnf, triggers: [trigger] }));
    for (const wrong of ["<tool>", "^[", "", "^"]) {
      expect(act(wrong)).toThrow(expect.objectContaining({ code: "GRAMMAR_INVALID" }));
    }
  });
});

describe("reasoning", () => {
  const markers = { open: "<think>", close: "</think>" };
  const closed = { gbnf: 'root ::= "{" [0-9]+ "}"', reasoning: { ...markers, opened: false } };
  const opened = { ...closed, reasoning: { ...markers, opened: true } };

  it("may come first, and the grammar applies behind it", () => {
    expect(goes(closed, "{1}")).toBe("complete");
    expect(goes(closed, "\n<think>{x} <b>\n</think>\n\n{1}")).toBe("complete");
    expect(goes(closed, "<think>hm")).toBe(true);
    expect(goes(closed, "<think>hm</think>no")).toBe(false);
    expect(goes(closed, "hm")).toBe(false);
    expect(goes(closed, "<thing")).toBe(false);
  });

  it("leaves the answer a way on, whatever white space comes first", () => {
    const constraint = createTokenConstraint(tokenizer, compiled(closed));
    const [newline] = encode("\n");
    for (let i = 0; i < 30 && constraint.allows(newline!); i++) constraint.accept(newline!);
    expect(constraint.allows(encode("{")[0]!)).toBe(true);
  });

  it("may have been opened by the prompt", () => {
    expect(goes(opened, "{x} hm</think>{1}")).toBe("complete");
    expect(goes(opened, "{1}")).toBe(true);
    expect(goes(opened, `</think>${" \n".repeat(20)}`)).toBe(false);
  });

  it("is all but the last channel, where an answer has channels", () => {
    const [analysis, final] = ["<|channel|>analysis<|message|>", "<|channel|>final"];
    const template = "<|start|>assistant<|channel|>final<|message|>";
    const request = { ...closed, reasoning: beforeContent(answerFormat(template)) };
    expect(goes(request, `${analysis}{x}<|end|><|start|>assistant${final}<|message|>{1}`)).toBe("complete");
    expect(goes(request, `${final} <|constrain|>json<|message|>{1}`)).toBe("complete");
    expect(goes(request, `${final}<|message|>no`)).toBe(false);
    expect(goes(request, `${analysis}{1}`)).toBe(true);
  });

  it("hides triggers", () => {
    const lazy = { ...opened, triggers: ["{"] };
    expect(goes(lazy, "{x}</think> free {1")).toBe(true);
    expect(goes(lazy, "{x}</think> free {x")).toBe(false);
    expect(goes(lazy, "{x}</think> free")).toBe("complete");
  });
});
