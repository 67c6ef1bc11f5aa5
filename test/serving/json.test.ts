import fc from "fast-check";
import { expect, it } from "vitest";
import { JsonBounds, parseJson } from "#stellium/serving/json";
import { turnsDuring } from "../turns.ts";

const filler = fc.constantFrom("x".repeat(17_000), ["\\", '"', "ж😀"].join("").repeat(6000), Array(9000).fill(7), "");
const value = fc.oneof(fc.jsonValue({ maxDepth: 4 }), filler, fc.array(filler), fc.dictionary(fc.string(), filler));
const spaced = (json: unknown, space: number) => `${" ".repeat(space)}${JSON.stringify(json, null, space)}\n`;

it("pieces of JSON are parsed as all of it is", async () => {
  const check = async (json: unknown, space: number) => {
    const text = spaced(json, space);
    expect(await parseJson(text)).toEqual(JSON.parse(text));
  };
  await fc.assert(fc.asyncProperty(value, fc.integer({ min: 0, max: 2 }), check), { numRuns: 150 });
  const proto = `{"a":[${"1,".repeat(20_000)}1],"__proto__":{"b":1},"a":2}`;
  expect(Object.entries((await parseJson(proto)) as object)).toEqual(Object.entries(JSON.parse(proto) as object));
});

it("what is not JSON is refused wherever JSON.parse refuses it", async () => {
  const check = async (json: unknown, at: number, cut: number, added: string) => {
    const text = spaced(json, 0);
    const place = Math.floor(at * text.length);
    const wrong = text.slice(0, place) + added + text.slice(place + cut);
    const wanted = await Promise.resolve(wrong)
      .then(JSON.parse)
      .catch(() => "refused");
    expect(await parseJson(wrong).catch(() => "refused")).toEqual(wanted);
  };
  const added = fc.constantFrom("", ",", "]", "}", "[", "{", '"', ":", "\\", "0", " ");
  const place = fc.double({ min: 0, max: 1, noNaN: true });
  await fc.assert(fc.asyncProperty(value, place, fc.integer({ min: 0, max: 2 }), added, check), { numRuns: 300 });
  const long = "1,".repeat(10_000);
  for (const wrong of [
    `[${long}]`,
    `[,${long}1]`,
    `[${long},1]`,
    `[${long}1}`,
    `{${long}1}`,
    `[${long}1]]`,
    `[${long}1`,
  ]) {
    await expect(parseJson(wrong), wrong.slice(-5)).rejects.toThrow(SyntaxError);
  }
});

it("other things run while long JSON is parsed", async () => {
  const messages = Array.from({ length: 9000 }, (_, i) => ({ role: "user", content: `${i} ${"x".repeat(400)}` }));
  expect(await turnsDuring(parseJson(JSON.stringify({ messages })))).toBeGreaterThan(100);
});

it.each([
  [`{"a":${"[".repeat(128)}`, "nests deeper than 128 levels"],
  [`[${"1,".repeat(2 ** 18)}1]`, "has more than 262144 elements and fields"],
  [`[${'{"a":1},'.repeat(2 ** 15 + 1)}1]`, "has more than 32768 fields"],
  [`["${'[{,:\\"'.repeat(2 ** 18)}"]`, undefined],
])("counts what JSON holds, however it is cut: %#", (json, excess) => {
  const bytes = Buffer.from(json);
  for (const length of [7, bytes.length]) {
    const bounds = new JsonBounds();
    for (let at = 0; at < bytes.length; at += length) bounds.add(bytes.subarray(at, at + length));
    expect(bounds.excess).toBe(excess);
  }
});
