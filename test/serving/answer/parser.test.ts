import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { AnswerFormat } from "#stellium/serving/answer/format";
import { type AnswerDelta, createAnswerParser } from "#stellium/serving/answer/parser";
import { merge } from "./merge.ts";

const think = { open: "<think>", close: "</think>", opened: false };
const read = (format: AnswerFormat, pieces: readonly string[]) => {
  const parser = createAnswerParser(format);
  return merge([...pieces.flatMap((piece) => parser.push(piece)), ...parser.end()]);
};
const content = (text: string): AnswerDelta => ({ kind: "content", text });
const reasoning = (text: string): AnswerDelta => ({ kind: "reasoning", text });
const call = (index: number, name: string, given: string, id?: string): AnswerDelta => ({
  kind: "toolCall",
  index,
  name,
  arguments: given,
  ...(id !== undefined && { id }),
});

const formats: AnswerFormat[] = [
  { tools: "hermes", reasoning: think },
  { tools: "hermes", reasoning: { ...think, opened: true } },
  { tools: "llama3" },
  { tools: "mistral" },
  { tools: "mistralNamed", reasoning: think },
  { reasoning: think },
  {},
];
const harmony: AnswerFormat = { tools: "harmony", channels: true };
/** What answers are made of, right and wrong. */
const fragments = fc.constantFrom(
  ...["<think>", "</think>", "<tool_call>", "</tool_call>", "<|python_tag|>", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"],
  ...['{"name": "f", "arguments": {"a": [1, "}"]}}', '{"name":"g","parameters":{}}', '{"arguments":{},"name":"h"}'],
  ...['{"name"', '"arguments"', "{}", "null", "12", "é", "😀", ...':{}[],;"\\ \n<f'],
  ...['{"name":"s","arguments":"{\\"x\\":1}","id":"abc"}', '{"a":1}', "Hello. "],
  ...["<|start|>", "<|end|>", "<|call|>", "<|message|>", "<|channel|>", "analysis", "to=functions.f", "<|"],
  "<|start|>assistant<|channel|>final<|message|>",
);
const answers = fc.array(fragments, { maxLength: 14 }).map((parts) => parts.join(""));
const cuts = fc.array(fc.nat(200), { maxLength: 12 });
const cutAt = (text: string, places: number[]) => {
  const at = [0, ...places.map((place) => place % (text.length + 1)).sort((a, b) => a - b), text.length];
  return at.slice(1).map((end, i) => text.slice(at[i]!, end));
};
const anyFormat = fc.constantFrom(...formats);

describe("any answer", () => {
  it("gives the same, however it is cut", () => {
    fc.assert(
      fc.property(fc.constantFrom(...formats, harmony), answers, cuts, (format, text, places) => {
        const whole = read(format, [text]);
        expect(read(format, cutAt(text, places))).toEqual(whole);
        expect(read(format, text.split(""))).toEqual(whole);
      }),
      { numRuns: 4000 },
    );
  });

  it("loses no text: what is not in a call is content, but for white space and markers", () => {
    const structure = /<tool_call>|<\/tool_call>|<\|python_tag\|>|\[TOOL_CALLS\]|<\/?think>|[\s;,[\]]/g;
    fc.assert(
      fc.property(anyFormat, answers, (format, text) => {
        const deltas = read(format, [text]);
        if (deltas.some(({ kind }) => kind === "toolCall")) return;
        const said = deltas.map((delta) => (delta.kind === "toolCall" ? "" : delta.text)).join("");
        expect(said.replace(structure, "")).toBe(text.replace(structure, ""));
      }),
      { numRuns: 3000 },
    );
  });

  it("has the arguments of a call as they stand in the text", () => {
    fc.assert(
      fc.property(anyFormat, answers, (format, text) => {
        for (const delta of read(format, [text])) {
          if (delta.kind !== "toolCall" || delta.arguments === '{"x":1}') continue;
          expect(text.includes(delta.arguments) || delta.arguments === "{}", delta.arguments).toBe(true);
        }
      }),
      { numRuns: 2000 },
    );
  });

  it("is held back no longer than it may become a marker", () => {
    const markers = ["<tool_call>", "<think>", "</think>", "</tool_call>"];
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(..."<tool_hink>/ a\n"), maxLength: 30 }), (text) => {
        fc.pre(!markers.some((marker) => text.includes(marker)));
        const parser = createAnswerParser({ tools: "hermes" });
        const shown = parser
          .push(text)
          .map((delta) => (delta.kind === "content" ? delta.text : ""))
          .join("");
        const held = text.slice(shown.length);
        expect(text.startsWith(shown)).toBe(true);
        expect("<tool_call>".startsWith(held.trimStart()), JSON.stringify(held)).toBe(true);
      }),
      { numRuns: 2000 },
    );
  });

  it("passes at once where nothing is looked for", () => {
    expect(createAnswerParser({}).push("  <tool_call>")).toEqual([content("  <tool_call>")]);
  });

  it("is read in time that grows with its length", () => {
    const markers = ["<tool_call>", '{"name":"<tool_call>', '<tool_call>{"id":"', "[TOOL_CALLS]", "[TOOL_CALLS]f["];
    const hostile = [...markers, " ", "<", "{"];
    const [hermes, , llama3, mistral, named] = formats;
    const parts = [...hostile, "<|start|>", "<|channel|>analysis<|message|>", "to=", "<|end|>"];
    for (const format of [hermes!, llama3!, mistral!, named!, harmony]) {
      for (const part of parts) read(format, [part.repeat(200_000 / part.length)]);
    }
  });
});

describe("reasoning", () => {
  const format = { reasoning: think };
  it.each<[string, AnswerDelta[]]>([
    ["<think>\nhm <b>\n</think>\n\nSo.\n", [reasoning("hm <b>"), content("So.\n")]],
    ["\n <think>a</think>b", [reasoning("a"), content("b")]],
    ["<think>\n\n</think>\n\nSo.", [content("So.")]],
    ["<think>cut of", [reasoning("cut of")]],
    ["<think>cut </thi", [reasoning("cut </thi")]],
    ["So <think>a</think>", [content("So <think>a</think>")]],
    ["<thin", [content("<thin")]],
    ["", []],
  ])("%j", (text, wanted) => expect(read(format, [text])).toEqual(wanted));

  it("goes on where the prompt opened it", () => {
    expect(read({ reasoning: { ...think, opened: true } }, ["a\n</think>\nb"])).toEqual([reasoning("a"), content("b")]);
  });
});

describe("channels", () => {
  const [analysis, final] = ["<|channel|>analysis<|message|>", "<|channel|>final<|message|>"];
  const next = "<|end|><|start|>assistant";
  it.each<[string, AnswerDelta[]]>([
    [`${analysis}hm <|x${next}${final}So.<|return|>`, [reasoning("hm <|x"), content("So.")]],
    [`${final}So.\n`, [content("So.\n")]],
    [`${analysis}a${next}${analysis}b`, [reasoning("a\n\nb")]],
    [`<|channel|>commentary<|message|>First${next}${final}Second`, [content("First\n\nSecond")]],
    [
      `${analysis}hm${next}<|channel|>commentary to=functions.f <|constrain|>json<|message|>{"a": 1}<|call|>`,
      [reasoning("hm"), call(0, "f", '{"a": 1}')],
    ],
    [' to=functions.g.h<|channel|>commentary json<|message|>{"b"', [call(0, "g.h", '{"b"')]],
    ["<|start|>assistant to=functions.f<|channel|>commentary<|message|> <|call|>", [call(0, "f", "{}")]],
    [`${analysis}hm${next} to=functions.f<|channel|>commentary json<|message|> `, [reasoning("hm")]],
    [`<|channel|>final <|constrain|>json<|message|>{}`, [content("{}")]],
    [`${analysis}hm<|end|>{}`, [reasoning("hm"), content("{}")]],
    [`${analysis}hm${next}<|channel|>fin`, [reasoning("hm")]],
    ["So it goes.", [content("So it goes.")]],
    ["to be", [content("to be")]],
    ["", []],
  ])("%j", (text, wanted) => {
    expect(read(harmony, [text])).toEqual(wanted);
    expect(read(harmony, text.split(""))).toEqual(wanted);
  });

  it("have no calls where none are looked for", () => {
    expect(read({ channels: true }, ["<|channel|>commentary to=functions.f<|message|>{}"])).toEqual([content("{}")]);
  });
});

describe("calls", () => {
  const f = '{"name": "f", "arguments": {"a": [1, "}"]}}';
  it.each<[NonNullable<AnswerFormat["tools"]>, string, AnswerDelta[]]>([
    ["hermes", `Ok.\n<tool_call>\n${f}\n</tool_call>`, [content("Ok."), call(0, "f", '{"a": [1, "}"]}')]],
    [
      "hermes",
      `<tool_call>${f}</tool_call>\n<tool_call>{"arguments": {"b":2}, "name": "g"}</tool_call>\nDone`,
      [call(0, "f", '{"a": [1, "}"]}'), call(1, "g", '{"b":2}'), content("Done")],
    ],
    ["hermes", '<tool_call>{"name":"f"}</tool_call>', [call(0, "f", "{}")]],
    ["hermes", '<tool_call>{"name":"f","arguments":"{\\"a\\":\\"\\u00e9\\"}"}', [call(0, "f", '{"a":"é"}')]],
    ["hermes", '<tool_call>{"name":"f","arguments":{"a":', [call(0, "f", '{"a":')]],
    ["hermes", "a <tool_call>no</tool_call>", [content("a <tool_call>no</tool_call>")]],
    ["hermes", `<tool_call>{<tool_call>${f}</tool_call>`, [content("<tool_call>{"), call(0, "f", '{"a": [1, "}"]}')]],
    ["hermes", '<tool_call>{"name":"f","arg', [content('<tool_call>{"name":"f","arg')]],
    ["hermes", '<tool_call>{"name":"f","arguments":{}, oops', [call(0, "f", "{}"), content("oops")]],
    ["llama3", '{"name": "f", "parameters": {"a": 1}}', [call(0, "f", '{"a": 1}')]],
    ["llama3", '{"type": "function", "name": "f", "parameters": {}}', [call(0, "f", "{}")]],
    ["llama3", '{"name":"f","parameters":{}}; {"name":"g","parameters":{}}', [call(0, "f", "{}"), call(1, "g", "{}")]],
    ["llama3", '<|python_tag|>{"name": "f", "parameters": {"a": 1}}', [call(0, "f", '{"a": 1}')]],
    ["llama3", "<|python_tag|>print(1)", [content("<|python_tag|>print(1)")]],
    ["llama3", '{"name": "Bob", "age": 3}', [content('{"name": "Bob", "age": 3}')]],
    ["llama3", 'So {"name":"f","parameters":{}}', [content('So {"name":"f","parameters":{}}')]],
    [
      "mistral",
      '[TOOL_CALLS] [{"name":"f","arguments":{"a":1},"id":"123456789"}, {"id":"x","name":"g","arguments":{}}]',
      [call(0, "f", '{"a":1}'), call(1, "g", "{}", "x")],
    ],
    ["mistral", '[TOOL_CALLS][{"name":"f","arguments":{}},', [call(0, "f", "{}")]],
    ["mistral", '[TOOL_CALLS][{"name":"f","arguments":{}}, oops]', [call(0, "f", "{}"), content(", oops]")]],
    ["mistral", "[TOOL_CALLS][]", [content("[TOOL_CALLS][]")]],
    [
      "mistralNamed",
      'Hi[TOOL_CALLS]f[ARGS]{"a":{}}[TOOL_CALLS]g.h-1[CALL_ID]abc[ARGS]{}',
      [content("Hi"), call(0, "f", '{"a":{}}'), call(1, "g.h-1", "{}", "abc")],
    ],
    ["mistralNamed", '[TOOL_CALLS]f{"a":1}', [call(0, "f", '{"a":1}')]],
    ["mistralNamed", "[TOOL_CALLS]f g {}", [content("[TOOL_CALLS]f g {}")]],
  ])("%s: %j", (tools, text, wanted) => expect(read({ tools }, [text])).toEqual(wanted));

  it("are told as they come: the name, then the arguments piece by piece", () => {
    const parser = createAnswerParser({ tools: "hermes" });
    expect(parser.push('<tool_call>{"name": "f", "argu')).toEqual([]);
    expect(parser.push('ments": {"a')).toEqual([call(0, "f", '{"a')]);
    expect(parser.push('":1')).toEqual([{ kind: "toolCall", index: 0, arguments: '":1' }]);
    expect(parser.push("}}</tool_call>")).toEqual([{ kind: "toolCall", index: 0, arguments: "}" }]);
    expect(parser.end()).toEqual([]);
  });
});
