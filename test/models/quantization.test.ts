import { describe, expect, it } from "vitest";
import { chooseModel, labelOf, modelsAmong } from "#stellium/models/quantization";

describe("a file's name tells its quantization", () => {
  it.each([
    ["Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf", "Q4_K_M"],
    ["llama-2-7b.Q4_0.gguf", "Q4_0"],
    ["qwen2.5-7b-instruct-q4_k_m-00001-of-00002.gguf", "Q4_K_M"],
    ["UD-Q4_K_XL/DeepSeek-R1-UD-Q4_K_XL-00001-of-00009.gguf", "UD-Q4_K_XL"],
    ["BF16/model-00001-of-00003.gguf", "BF16"],
    ["m.i1-IQ3_XXS.gguf", "i1-IQ3_XXS"],
    ["gpt-oss-20b-mxfp4.gguf", "MXFP4"],
    ["m-TQ1_0.gguf", "TQ1_0"],
    ["m.f16.Q5_K_S.gguf", "Q5_K_S"],
    ["ggml-model-f32.gguf", "F32"],
    ["model.gguf", undefined],
    ["q4you.gguf", undefined],
  ])("%s: %s", (path, label) => {
    expect(labelOf(path)).toBe(label);
  });
});

describe("the model that is meant", () => {
  const files = [
    "README.md",
    "imatrix_unsloth.gguf_file",
    "m-BF16/m-BF16-00001-of-00002.gguf",
    "m-BF16/m-BF16-00002-of-00002.gguf",
    "m-IQ4_XS.gguf",
    "m-Q4_K_M.gguf",
    "m-Q8_0.gguf",
    "m-UD-Q2_K_XL.gguf",
    "m-UD-Q4_K_M.gguf",
    "mmproj-F16.gguf",
    "mtp-m-Q4_K_M.gguf",
  ];
  const models = modelsAmong(files);
  const chosen = (choice?: string, among = models) => chooseModel(among, choice)?.path;

  it("is one of those that are models, whose parts belong together", () => {
    expect(models.map(({ path }) => path)).toEqual([
      "m-BF16/m-BF16-00001-of-00002.gguf",
      "m-IQ4_XS.gguf",
      "m-Q4_K_M.gguf",
      "m-Q8_0.gguf",
      "m-UD-Q2_K_XL.gguf",
      "m-UD-Q4_K_M.gguf",
    ]);
    expect(models[0]!.parts).toEqual(files.slice(2, 4));
  });

  it.each([
    ["Q8_0", "m-Q8_0.gguf"],
    ["iq4_xs", "m-IQ4_XS.gguf"],
    ["ud-q2_k_xl", "m-UD-Q2_K_XL.gguf"],
    ["Q2_K_XL", "m-UD-Q2_K_XL.gguf"],
    ["Q4_K_M", "m-Q4_K_M.gguf"],
    ["UD-Q4_K_M", "m-UD-Q4_K_M.gguf"],
    ["bf16", "m-BF16/m-BF16-00001-of-00002.gguf"],
    ["m-q8_0.gguf", "m-Q8_0.gguf"],
    ["m-Q8_0", "m-Q8_0.gguf"],
    ["m-BF16/m-BF16-00001-of-00002.gguf", "m-BF16/m-BF16-00001-of-00002.gguf"],
    ["m-BF16-00002-of-00002.gguf", "m-BF16/m-BF16-00001-of-00002.gguf"],
    ["Q5_K_M", undefined],
    ["Q4", undefined],
    ["mmproj-F16.gguf", undefined],
  ])("by %s", (choice, path) => {
    expect(chosen(choice)).toBe(path);
  });

  it("is the one that llama.cpp takes where nothing is said", () => {
    expect(chosen()).toBe("m-Q4_K_M.gguf");
    expect(chosen(undefined, modelsAmong(["a-Q4_0.gguf", "a-Q8_0.gguf"]))).toBe("a-Q8_0.gguf");
    expect(chosen(undefined, modelsAmong(["a-Q2_K.gguf", "a-Q5_0.gguf"]))).toBe("a-Q2_K.gguf");
    expect(chosen(undefined, modelsAmong(["only.gguf"]))).toBe("only.gguf");
    expect(chosen(undefined, [])).toBeUndefined();
  });
});
