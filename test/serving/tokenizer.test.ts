import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openTokenizer, type Tokenizer } from "#stellium/serving/tokenizer";
import { absentData, sharedData, skipIf } from "../skip.ts";
import { turnsDuring } from "../turns.ts";

const demoModel = "models/stellium-shakespeare-5m-q8_0.gguf";
const vocabularies = sharedData("vocab");
const names = ["llama-spm", "phi-3", "gpt-2", "llama-bpe.rebuilt", "qwen2.rebuilt"];
const absent = skipIf(!existsSync(vocabularies), absentData("vocab"));
const plainText = { addSpecial: false, parseSpecial: false };

describe("llama.cpp's tokenizer vectors", absent, () => {
  it.each(names)("%s", (name) => {
    const path = join(vocabularies, `ggml-vocab-${name}.gguf`);
    const inputs = readFileSync(`${path}.inp`, "utf8").split("\n__ggml_vocab_test__\n");
    const outputs = readFileSync(`${path}.out`, "utf8").split("\n");
    using tokenizer = openTokenizer(path);
    expect(inputs.length).toBe(47);
    inputs.forEach((input, i) => {
      const ids = Array.from(tokenizer.encode(input, plainText));
      expect(ids.join(" "), JSON.stringify(input)).toBe(outputs[i]!.trim());
    });
  });
});

it("a SentencePiece vocabulary without a byte is refused", absent, () => {
  const folder = mkdtempSync(join(tmpdir(), "stellium-tokenizer-"));
  const path = join(folder, "model.gguf");
  const bytes = readFileSync(join(vocabularies, "ggml-vocab-llama-spm.gguf"));
  bytes.write("<0xZZ>", bytes.indexOf("<0xE2>"));
  writeFileSync(path, bytes);
  const refused = expect.objectContaining({
    code: "MODEL_UNSUPPORTED",
    message: expect.stringContaining("1 of the 243"),
  });
  expect(() => openTokenizer(path)).toThrow(refused);
  rmSync(folder, { recursive: true });
});

describe("the demo model's vocabulary", () => {
  let tokenizer: Tokenizer;
  beforeAll(() => {
    tokenizer = openTokenizer(demoModel);
  });
  afterAll(() => tokenizer.close());

  it("gives any text back", () => {
    const texts = fc.oneof(fc.string({ unit: "binary" }), fc.lorem({ mode: "sentences" }));
    fc.assert(
      fc.property(texts, (text) => {
        const ids = tokenizer.encode(text, plainText);
        expect(tokenizer.decode(ids)).toBe(text);
        const bytes = Buffer.concat(Array.from(ids, (id) => tokenizer.pieceBytes(id)));
        expect(bytes.toString()).toBe(text);
      }),
    );
  });

  it("takes NUL, lone surrogates, the empty text and long texts", () => {
    const encode = (text: string) => tokenizer.decode(tokenizer.encode(text, plainText));
    expect(encode("a\0b\0")).toBe("a\0b\0");
    expect(encode("a\ud800b")).toBe("a\ufffdb");
    expect(encode("")).toBe("");
    expect(encode("☃".repeat(50_000))).toBe("☃".repeat(50_000));
  });

  it("adds and parses special tokens only when asked", () => {
    expect(tokenizer.addBos).toBe(true);
    expect(tokenizer.encode("", { addSpecial: true, parseSpecial: false })).toEqual(Int32Array.of(tokenizer.bos));
    const name = tokenizer.text(tokenizer.eos);
    expect(tokenizer.encode(name, { addSpecial: false, parseSpecial: true })).toEqual(Int32Array.of(tokenizer.eos));
    expect(tokenizer.encode(name, plainText).length).toBeGreaterThan(1);
  });

  it("knows control tokens, and shows them only when asked", () => {
    expect(tokenizer.isEog(tokenizer.eos)).toBe(true);
    expect(tokenizer.isControl(tokenizer.bos)).toBe(true);
    expect(tokenizer.isControl(tokenizer.encode("a", plainText)[0]!)).toBe(false);
    expect(tokenizer.pieceBytes(tokenizer.eos)).toHaveLength(0);
    const shown = Buffer.from(tokenizer.pieceBytes(tokenizer.eos, { special: true })).toString();
    expect(shown).toBe(tokenizer.text(tokenizer.eos));
    expect(tokenizer.decode([tokenizer.bos, ...tokenizer.encode("so", plainText)])).toBe("so");
  });

  it("encodes and decodes long texts beside other things, as it does short ones", async () => {
    const text = "To be, or not to be: that is the question.\n".repeat(3000);
    for (const options of [plainText, { addSpecial: true, parseSpecial: true }]) {
      const encoded = tokenizer.encodeAside(text, options);
      expect(await turnsDuring(encoded)).toBeGreaterThan(3);
      expect(await encoded).toEqual(tokenizer.encode(text, options));
    }
    const texts = Array.from({ length: 300 }, (_, i) => `${i} ${"x".repeat(100)}`);
    const all = (async () => {
      for (const short of texts) await tokenizer.encodeAside(short, plainText);
    })();
    expect(await turnsDuring(all)).toBeGreaterThan(3);
    expect(await tokenizer.decodeAside(tokenizer.encode(text, plainText))).toBe(text);
  });

  it("refuses texts that spell more special tokens than libllama finds in time", async () => {
    const name = tokenizer.text(tokenizer.eos);
    const refused = tokenizer.encodeAside(name.repeat(20_000), { addSpecial: false, parseSpecial: true });
    await expect(refused).rejects.toMatchObject({ code: "REQUEST_INVALID", status: 400 });
    const allowed = tokenizer.encodeAside(name.repeat(3000), { addSpecial: false, parseSpecial: true });
    expect(await allowed).toEqual(new Int32Array(3000).fill(tokenizer.eos));
  });

  it.each([-1, 1024, 2 ** 31, 0.5, Number.NaN])("refuses token %s", (token) => {
    const refused = expect.objectContaining({ code: "BAD_USAGE" });
    expect(tokenizer.size).toBe(1024);
    for (const method of ["pieceBytes", "isEog", "isControl", "text"] as const) {
      expect(() => tokenizer[method](token)).toThrow(refused);
    }
    expect(() => tokenizer.decode([1, token])).toThrow(refused);
  });
});

it("is of no use once closed, closes once, and ends what it does before", async () => {
  const tokenizer = openTokenizer(demoModel);
  const text = "To be. ".repeat(10_000);
  const encoded = tokenizer.encodeAside(text, plainText);
  const decoded = tokenizer.decodeAside(tokenizer.encode(text, plainText));
  tokenizer.close();
  tokenizer.close();
  expect([(await encoded).length > 10_000, await decoded]).toEqual([true, text]);
  await expect(tokenizer.encodeAside("a", plainText)).rejects.toMatchObject({ code: "ENGINE_FAILED" });
  const closed = expect.objectContaining({ code: "ENGINE_FAILED" });
  expect(() => tokenizer.encode("a", plainText)).toThrow(closed);
  expect(() => tokenizer.text(1)).toThrow(closed);
});

describe("a vocabulary that libllama rejects", () => {
  const folder = mkdtempSync(join(tmpdir(), "stellium-tokenizer-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  const model = readFileSync(demoModel);

  /** The demo model with one string of its metadata replaced by another of the same length. */
  function changed(from: string, to: string): string {
    const bytes = Buffer.from(model);
    bytes.write(to, bytes.indexOf(from), "utf8");
    const path = join(folder, `${to.replace(/\W/g, "_")}.gguf`);
    writeFileSync(path, bytes);
    return path;
  }

  it.each([
    ["general.architecture", "general.architecturf", /architecture/],
    ["tokenizer.ggml.model", "tokenizer.ggml.modem", /tokenizer\.ggml\.model/],
    ["tokenizer.ggml.tokens", "tokenizer.ggml.tokenz", /token/],
  ])("fails with MODEL_UNSUPPORTED and the reason: no %s", (from, to, reason) => {
    const rejected = expect.objectContaining({ code: "MODEL_UNSUPPORTED", message: expect.stringMatching(reason) });
    expect(() => openTokenizer(changed(from, to))).toThrow(rejected);
  });
});
