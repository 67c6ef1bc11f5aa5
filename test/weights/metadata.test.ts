import { describe, expect, it } from "vitest";
import {
  getBoolean,
  getNumber,
  getNumberArray,
  getString,
  getStringArray,
  requireNumber,
  requireStringArray,
} from "#stellium/weights/gguf/metadata";
import { readGguf } from "#stellium/weights/gguf/reader";
import { buildGguf, memoryOpener, sampleFile } from "./ggufBuilder.ts";

describe("typed metadata", () => {
  const model = readGguf("m.gguf", memoryOpener({ "m.gguf": buildGguf(sampleFile()) }).open);

  it("gives what is there, and undefined where nothing is", async () => {
    expect(getNumber(await model, "u64")).toBe(2 ** 40);
    expect(getBoolean(await model, "yes")).toBe(true);
    expect(getStringArray(await model, "strings")).toEqual(["a", "", "▁the", "\n"]);
    expect(Array.from(getNumberArray(await model, "array.i32") ?? [])).toEqual([1, -2, 3]);
    expect(getNumberArray(await model, "array.empty")).toEqual([]);
    expect(requireStringArray(await model, "array.empty")).toEqual([]);
    expect(getNumber(await model, "absent")).toBeUndefined();
  });

  it.each<[string, (m: Awaited<typeof model>) => unknown, string]>([
    ["an absent key", (m) => requireNumber(m, "absent"), "it has no metadata key absent"],
    ["a string for a number", (m) => getNumber(m, "text"), "text is not a number but a string"],
    ["a number too large", (m) => getNumber(m, "u64.large"), "u64.large is not a number but a 64-bit integer"],
    ["a number for a string", (m) => getString(m, "u8"), "u8 is not a string but a number"],
    ["numbers for strings", (m) => getStringArray(m, "array.f32"), "but an array of 2 float32"],
    ["strings for numbers", (m) => getNumberArray(m, "strings"), "but an array of 4 strings"],
    ["numbers too large", (m) => getNumberArray(m, "array.u64"), "but an array of 2 uint64"],
    ["an array for a boolean", (m) => getBoolean(m, "nested"), "but an array of 2 arrays"],
  ])("refuses %s", async (_, get, reason) => {
    const found = await model;
    expect(() => get(found)).toThrow(
      expect.objectContaining({ code: "MODEL_UNSUPPORTED", message: expect.stringContaining(reason) }),
    );
  });
});
