import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { gguf } from "@huggingface/gguf";
import { describe, expect, it } from "vitest";
import type { StelliumError } from "#stellium/errors";
import { tensorTypes } from "#stellium/native/tensorTypes";
import { openFile } from "#stellium/weights/byteSource";
import { getString, requireStringArray } from "#stellium/weights/gguf/metadata";
import { readGguf } from "#stellium/weights/gguf/reader";
import { absentData, sharedData, skipIf } from "../skip.ts";
import { buildGguf, type File, memoryOpener, sampleFile, type Value } from "./ggufBuilder.ts";

const bundled = join(import.meta.dirname, "../../models/stellium-shakespeare-5m-q8_0.gguf");

function read(file: File | Uint8Array, name = "m.gguf") {
  const bytes = file instanceof Uint8Array ? file : buildGguf(file);
  return readGguf(name, memoryOpener({ [name]: bytes }).open);
}

async function refusal(file: File | Uint8Array): Promise<StelliumError> {
  const outcome = await read(file).catch((error: unknown) => error);
  expect(outcome).toHaveProperty("code");
  return outcome as StelliumError;
}

function entries(...pairs: [string, Value][]): File {
  return { entries: pairs };
}

describe("a well-formed file", () => {
  it.each([2, 3])("of version %i gives every metadata type", async (version) => {
    const model = await read({ ...sampleFile(), version });
    expect(model.version).toBe(version);
    expect(Object.fromEntries(model.metadata)).toEqual({
      "general.architecture": "llama",
      u8: 200,
      i8: -100,
      u16: 60000,
      i16: -30000,
      u32: 4e9,
      i32: -2e9,
      f32: 0.5,
      f64: Math.PI,
      yes: true,
      u64: 2 ** 40,
      "u64.large": 2n ** 63n + 1n,
      i64: -(2 ** 40),
      text: "çä水\u{1f30a}",
      strings: ["a", "", "▁the", "\n"],
      "array.u8": Uint8Array.of(1, 2, 255),
      "array.i32": Int32Array.of(1, -2, 3),
      "array.f32": Float32Array.of(0.5, -1.5),
      "array.u64": BigUint64Array.of(1n, 2n ** 64n - 1n),
      "array.bool": [true, false, true],
      "array.empty": [],
      nested: [Uint16Array.of(1, 2), ["x"]],
    });
  });

  it("places its tensors from the start of the file", async () => {
    const bytes = buildGguf(sampleFile());
    const dataStart = bytes.length - 288;
    const { tensors, files, fileBytes } = await read(bytes);
    expect([...tensors.values()]).toEqual([
      { name: "token_embd.weight", type: "Q8_0", shape: [32, 4], file: 0, offset: dataStart, bytes: 136 },
      { name: "output_norm.weight", type: "F32", shape: [32], file: 0, offset: dataStart + 160, bytes: 128 },
    ]);
    expect({ files, fileBytes }).toEqual({ files: ["m.gguf"], fileBytes: [bytes.length] });
  });

  it.each([1, 8, 256, 4096])("may be aligned to %i bytes", async (alignment) => {
    const aligned = entries(["general.alignment", { type: "uint32", value: alignment }]);
    const tensors = [{ name: "t", shape: [2], offset: alignment }];
    const bytes = buildGguf({ ...aligned, alignment, tensors, dataBytes: alignment + 8 });
    expect((await read(bytes)).tensors.get("t")?.offset).toBe(bytes.length - 8);
  });

  it("may be empty of metadata and tensors", async () => {
    const model = await read({});
    expect([model.metadata.size, model.tensors.size]).toEqual([0, 0]);
  });

  it("is read through a window that ends anywhere, and closed", async () => {
    const long = Array.from({ length: 300_000 }, (_, i) => `token number ${i}`);
    const scores = Array.from(long, (_, i) => -i);
    const bytes = buildGguf(
      entries(
        ["a", { type: "array", of: "string", value: long }],
        ["b", { type: "array", of: "float32", value: scores }],
        ["c", { type: "array", of: "float64", value: scores }],
      ),
    );
    const { open, counts } = memoryOpener({ m: bytes });
    const { metadata } = await readGguf("m", open);
    // toEqual takes seconds for arrays of this length.
    expect((metadata.get("a") as string[]).join() === long.join()).toBe(true);
    expect((metadata.get("b") as Float32Array).join() === scores.join()).toBe(true);
    expect((metadata.get("c") as Float64Array).join() === scores.join()).toBe(true);
    expect(counts).toMatchObject({ opened: 1, closed: 1 });
  });
});

describe("a malformed file", () => {
  const u8: Value = { type: "uint8", value: 1 };
  const deep = (depth: number): Value => ({
    type: "array",
    of: depth === 0 ? "uint8" : "array",
    value: depth === 0 ? [] : [deep(depth - 1)],
  });
  const tensor = (rest: object): File => ({ tensors: [{ name: "t", shape: [32], ...rest }], dataBytes: 256 });
  const sample = buildGguf(sampleFile());
  const spliced = (file: File, at: number, bytes: number[]) => {
    const built = buildGguf(file);
    built.set(bytes, at);
    return built;
  };
  const huge = [255, 255, 255, 255, 255, 255, 255, 255];
  const cases: [what: string, file: File | Uint8Array, reason: string, offset: number][] = [
    ["empty", new Uint8Array(0), "it ends before the end of the magic number", 0],
    ["another format", { magic: "ggml" }, 'it does not start with "GGUF"', 0],
    ["cut in the counts", buildGguf({}).subarray(0, 20), "it ends before the end of the counts", 8],
    ["too many tensors", { tensorCount: 1000 }, "it ends before the end of the 1000 tensors", 16],
    ["a negative count", { tensorCount: 2n ** 64n - 1n }, "the number of tensors is out of range", 8],
    ["too many entries", { entryCount: 2 ** 32 }, "it ends before the end of the 4294967296 metadata entries", 24],
    ["an endless key", spliced(entries(["k", u8]), 24, huge), "the length of a metadata key is out of range", 24],
    ["a long key", entries(["k".repeat(65536), u8]), "a metadata key is longer than 65535 bytes", 24],
    ["an empty key", entries(["", { type: "uint16", value: 1 }]), "a metadata key is empty", 24],
    ["a repeated key", entries(["k", u8], ["k", u8]), "it has the metadata key k twice", 38],
    ["an unknown type", spliced(entries(["k", u8]), 33, [13]), "the value of k has the unknown type 13", 33],
    ["a boolean of 2", entries(["k", { type: "bool", value: 2 }]), "2 is neither 0 nor 1", 37],
    ["a boolean of 3", entries(["k", { type: "array", of: "bool", value: [1, 3] }]), "k holds 3 for a boolean", 50],
    [
      "a long string",
      spliced(entries(["k", { type: "string", value: "abc" }]), 37, [4]),
      "before the end of the value",
      45,
    ],
    [
      "a long array",
      spliced(entries(["k", { type: "array", of: "int32", value: [1] }]), 41, [2]),
      "before the end of",
      49,
    ],
    ["nested arrays", entries(["k", deep(5)]), "nests arrays deeper than 4", 85],
    ["no power of two", entries(["general.alignment", { type: "uint32", value: 24 }]), "not a power of two", 57],
    ["an alignment of 0", entries(["general.alignment", { type: "uint32", value: 0 }]), "not a power of two", 57],
    ["a huge alignment", entries(["general.alignment", { type: "uint32", value: 2 ** 31 }]), "not a power of two", 57],
    ["a worded alignment", entries(["general.alignment", { type: "string", value: "32" }]), "not a power of two", 63],
    ["an unnamed tensor", tensor({ name: "" }), "a tensor has no name", 24],
    ["a long name", tensor({ name: "t".repeat(65) }), "a tensor's name is longer than 64 bytes", 24],
    ["no dimensions", tensor({ shape: [] }), "tensor t has 0 dimensions", 33],
    ["five dimensions", tensor({ shape: [1, 1, 1, 1, 1] }), "tensor t has 5 dimensions", 33],
    ["an empty dimension", tensor({ shape: [32, 0] }), "tensor t has an empty dimension", 33],
    ["a huge dimension", tensor({ shape: [2n ** 63n] }), "a dimension of tensor t is out of range", 37],
    ["a huge product", tensor({ shape: [2 ** 30, 2 ** 30] }), "tensor t has too many elements", 33],
    ["a broken block", tensor({ shape: [33], type: 8 }), "rows of 33 elements, no multiple of Q8_0's 32", 49],
    ["a stray offset", tensor({ offset: 33 }), "tensor t is not aligned to 32", 24],
    ["a far offset", tensor({ offset: 256 }), "the file ends before the end of tensor t", 24],
    ["a huge offset", tensor({ offset: 2n ** 63n }), "the offset of tensor t is out of range", 49],
    ["a large tensor", tensor({ shape: [65] }), "the file ends before the end of tensor t", 24],
    ["a repeated tensor", { tensors: [1, 2].map(() => ({ name: "t", shape: [1] })) }, "it has the tensor t twice", 57],
    [
      "cut in the tensors",
      sample.subarray(0, -300),
      "the description of tensor output_norm.weight",
      sample.length - 306,
    ],
  ];

  it.each(cases)("%s is refused", async (_, file, reason, offset) => {
    const error = await refusal(file);
    expect(error.code).toBe("GGUF_INVALID");
    expect(error.message).toContain(reason);
    expect(error.message).toContain(`(at byte ${offset})`);
  });

  it.each([
    ["big-endian", spliced({}, 4, [0, 0, 0, 3]), "it is a big-endian GGUF file"],
    ["of version 1", { version: 1 }, "it is a GGUF file of version 1"],
    ["of version 4", { version: 4 }, "it is a GGUF file of version 4"],
    ["with a retired tensor type", tensor({ type: 4 }), "tensor t has the type Q4_2, which ggml has retired"],
    [
      "with a tensor type that does not run here",
      tensor({ type: 40 }),
      "tensor t has the type NVFP4, which does not run",
    ],
    ["with a tensor type of the future", tensor({ type: 99 }), "tensor t has type 99, which is not known"],
  ])("%s is refused as unsupported", async (_, file, reason) => {
    const error = await refusal(file);
    expect(error.code).toBe("MODEL_UNSUPPORTED");
    expect(error.message).toContain(reason);
  });

  it("is shown without its control characters", async () => {
    const error = await refusal(entries(["\u001b[2J", u8], ["\u001b[2J", u8]));
    expect(error.message).toContain("the metadata key \\u001b[2J twice");
  });

  it("is closed", async () => {
    const { open, counts } = memoryOpener({ m: buildGguf({ magic: "ggml" }) });
    await expect(readGguf("m", open)).rejects.toThrow();
    expect(counts).toMatchObject({ opened: 1, closed: 1 });
  });
});

describe("a split model", () => {
  const uint16 = (value: number): Value => ({ type: "uint16", value });
  const part = (no: number, { count = 3, total = 3, name = `t${no}`, key = "k" } = {}): Buffer =>
    buildGguf({
      entries: [
        ["split.no", uint16(no)],
        ["split.count", uint16(count)],
        ["split.tensors.count", { type: "int32", value: total }],
        [key, { type: "string", value: `of part ${no}` }],
      ],
      tensors: [{ name, shape: [8] }],
      dataBytes: 32,
    });
  const named = (no: number) => `dir/m-0000${no + 1}-of-00003.gguf`;
  const parts = (change: Record<number, Buffer> = {}) =>
    Object.fromEntries([0, 1, 2].map((no) => [named(no), change[no] ?? part(no)]));
  const failure = (files: Record<string, Buffer>, name = named(0)) =>
    readGguf(name, memoryOpener(files).open).catch((error: unknown) => error as Error);

  it.each([0, 1, 2])("is found by its part %i", async (no) => {
    const { open, counts } = memoryOpener(parts());
    const model = await readGguf(named(no), open);
    expect(model.files).toEqual([0, 1, 2].map(named));
    expect([...model.tensors.values()].map(({ name, file }) => `${name} in ${file}`)).toEqual([
      "t0 in 0",
      "t1 in 1",
      "t2 in 2",
    ]);
    expect(getString(model, "k")).toBe("of part 0");
    expect(counts).toMatchObject({ opened: 3, closed: 3 });
  });

  it("names a part that is missing", async () => {
    const missing = readGguf(join(import.meta.dirname, named(1)), openFile);
    await expect(missing).rejects.toMatchObject({ code: "FILE_UNREADABLE" });
    await expect(missing).rejects.toThrow("m-00001-of-00003.gguf");
  });

  it.each<[string, Record<string, Buffer>, string]>([
    ["a part of another split", parts({ 1: part(1, { count: 4 }) }), "it is one of 4 parts, but one of 3 by its name"],
    ["a part in the wrong place", parts({ 1: part(2) }), "its split.no is 2, but 1 by its name"],
    ["a whole model under a part's name", parts({ 0: buildGguf({}) }), "it is one of 1 parts, but one of 3"],
    ["too few tensors", parts({ 0: part(0, { total: 4 }) }), "its split.tensors.count is 4, but its parts hold 3"],
    ["one tensor twice", parts({ 2: part(2, { name: "t0" }) }), "an earlier part has the tensor t0 too"],
  ])("is refused with %s", async (_, files, reason) => {
    expect(await failure(files)).toMatchObject({ code: "GGUF_INVALID", message: expect.stringContaining(reason) });
  });

  it("is refused where a part was renamed", async () => {
    const error = await failure({ "renamed.gguf": part(0) }, "renamed.gguf");
    expect(error).toMatchObject({ code: "GGUF_INVALID", message: expect.stringContaining("one of 3 parts") });
  });

  it("of one part is a model like any other", async () => {
    const name = "m-00001-of-00001.gguf";
    expect((await read(part(0, { count: 1, total: 1 }), name)).files).toEqual([name]);
    expect((await read(buildGguf({}), name)).files).toEqual([name]);
  });
});

describe("real files", () => {
  it("agree with @huggingface/gguf", async () => {
    const model = await readGguf(bundled);
    const oracle = await gguf(bundled, { allowLocalFile: true });
    const { version, tensor_count, kv_count, ...theirs } = oracle.metadata as Record<string, unknown>;
    const ours = [...model.metadata].map(([key, value]) => [key, typeof value === "object" ? [...value] : value]);
    expect(Object.fromEntries(ours)).toEqual(onlyNumbers(theirs));
    expect([model.version, model.tensors.size, model.metadata.size]).toEqual(
      [version, tensor_count, kv_count].map(Number),
    );
    expect(
      [...model.tensors.values()].map(({ name, shape, type, offset }) => [name, shape, tensorTypes[type].id, offset]),
    ).toEqual(
      oracle.tensorInfos.map(({ name, shape, dtype, offset }) => [
        name,
        shape.map(Number),
        dtype,
        Number(offset + oracle.tensorDataOffset),
      ]),
    );
  });

  const folders = ["vocab", "stories260K"].map((name) => sharedData(name)).filter((path) => existsSync(path));
  const files = folders.flatMap((folder) => readdirSync(folder).map((name) => join(folder, name)));
  const found = files.filter((path) => path.endsWith(".gguf"));
  const absent = skipIf(found.length === 0, absentData("vocab"));

  it.each(found.length === 0 ? ["a published file"] : found)("%s is read", absent, async (path) => {
    const start = performance.now();
    const model = await readGguf(path);
    expect(performance.now() - start).toBeLessThan(2000);
    expect(getString(model, "tokenizer.ggml.model")).toBeTypeOf("string");
    const theirs = await gguf(path, { allowLocalFile: true });
    expect(model.tensors.size).toBe(theirs.tensorInfos.length);
    const tokens = requireStringArray(model, "tokenizer.ggml.tokens");
    // The oracle's decoder drops a byte order mark, which is a token of some vocabularies.
    const withoutMark = tokens.map((token) => token.replace(/^\ufeff/, ""));
    const { "tokenizer.ggml.tokens": expected } = theirs.metadata as unknown as Record<string, string[]>;
    expect(withoutMark.join() === expected?.join()).toBe(true);
  });
});

/** The oracle gives every 64-bit integer as bigint. */
function onlyNumbers(value: unknown): unknown {
  if (typeof value === "bigint") return Number(value);
  if (Array.isArray(value)) return value.map(onlyNumbers);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, onlyNumbers(inner)]));
}
