import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { AnswerFormat, ToolSyntax } from "#stellium/serving/answer/format";
import { createAnswerParser } from "#stellium/serving/answer/parser";
import { createTokenConstraint } from "#stellium/serving/grammar/constraint";
import { type ToolDefinition, toolsGrammar } from "#stellium/serving/grammar/tools";
import { openTokenizer, type Tokenizer } from "#stellium/serving/tokenizer";
import { model } from "../../cli/stellium.ts";
import { merge } from "../answer/merge.ts";
import { compiled, write } from "./walk.ts";

let tokenizer: Tokenizer;
beforeAll(() => {
  tokenizer = openTokenizer(model);
});
afterAll(() => tokenizer.close());

const tools: ToolDefinition[] = [
  {
    name: "get_weather",
    parameters: {
      type: "object",
      properties: { city: { enum: ["Oslo", "Bern"] }, days: { type: "integer", minimum: 1, maximum: 9 } },
      required: ["city", "days"],
      additionalProperties: false,
    },
  },
  { name: "now" },
];
const formats: ToolSyntax[] = ["hermes", "llama3", "mistral", "mistralNamed", "harmony"];

describe.each(formats)("%s", (syntax) => {
  const format: AnswerFormat = { tools: syntax, ...(syntax === "harmony" && { channels: true }) };

  it("makes a model with random logits write calls that are read as such", async () => {
    const request = toolsGrammar(tools, "required", format)!;
    const names = new Set<string>();
    for (let seed = 0; seed < 8; seed++) {
      const { text, ended } = await write(tokenizer, request, seed);
      expect(ended, text).toBe(true);
      const parser = createAnswerParser(format);
      const deltas = merge([...parser.push(text), ...parser.end()]);
      for (const delta of deltas) {
        if (delta.kind !== "toolCall") throw new Error(`${text} has ${JSON.stringify(delta)}`);
        const given = JSON.parse(delta.arguments);
        names.add(delta.name!);
        if (delta.name === "now") expect(given).toEqual({});
        else expect(given).toEqual({ city: expect.stringMatching(/^(Oslo|Bern)$/), days: expect.any(Number) });
      }
    }
    expect([...names].sort()).toEqual(["get_weather", "now"]);
  });

  it("demands the tool that is named, once", async () => {
    const request = toolsGrammar(tools, { name: "now" }, format, { parallel: false })!;
    for (let seed = 0; seed < 4; seed++) {
      const parser = createAnswerParser(format);
      const deltas = merge([...parser.push((await write(tokenizer, request, seed)).text), ...parser.end()]);
      expect(deltas).toEqual([
        { kind: "toolCall", index: 0, name: "now", arguments: expect.stringMatching(/^\{\s*\}$/) },
      ]);
    }
  });

  it("leaves a model free until it begins a call", () => {
    const request = toolsGrammar(tools, "auto", format)!;
    const constraint = createTokenConstraint(tokenizer, compiled(request));
    const accept = (text: string) => {
      for (const token of tokenizer.encode(text, { addSpecial: false, parseSpecial: false })) constraint.accept(token);
    };
    expect(constraint.allows(tokenizer.eos)).toBe(true);
    accept("Let me see. ");
    accept(request.triggers!.find((trigger) => !trigger.startsWith("^"))!);
    expect(constraint.allows(tokenizer.eos)).toBe(false);
    expect(() => accept("so")).toThrow(expect.objectContaining({ code: "GRAMMAR_INVALID" }));
  });
});

describe("which grammar", () => {
  const format: AnswerFormat = { tools: "hermes" };
  it("is none where nothing is to be held to", () => {
    expect(toolsGrammar(tools, "none", format)).toBeUndefined();
    expect(toolsGrammar([], "auto", format)).toBeUndefined();
    expect(toolsGrammar(tools, "auto", {})).toBeUndefined();
  });

  it("is refused where a call is demanded that cannot be made", () => {
    const refused = expect.objectContaining({ code: "BAD_USAGE" });
    expect(() => toolsGrammar(tools, "required", {})).toThrow(refused);
    expect(() => toolsGrammar([], "required", format)).toThrow(refused);
    expect(() => toolsGrammar(tools, { name: "other" }, format)).toThrow(refused);
  });

  it("allows any object where a schema cannot be held to, unless that is demanded", () => {
    const tool = { name: "f", parameters: { type: "object", properties: { a: { not: {} } } } };
    compiled(toolsGrammar([tool], "required", format)!);
    expect(() => toolsGrammar([{ ...tool, strict: true }], "required", format)).toThrow(
      expect.objectContaining({ code: "SCHEMA_UNSUPPORTED", message: expect.stringContaining("/properties/a/not") }),
    );
  });

  it("comes behind reasoning", () => {
    const reasoning = { open: "<think>", close: "</think>", opened: true };
    expect(toolsGrammar(tools, "required", { ...format, reasoning })!.reasoning).toEqual(reasoning);
  });
});
