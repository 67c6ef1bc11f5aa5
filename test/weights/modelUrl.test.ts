import { expect, it } from "vitest";
import { fileNameOf } from "#stellium/weights/modelUrl";

it.each([
  ["models/a model.gguf", "a model.gguf"],
  ["https://example.com/user/repo/resolve/main/model-Q4_K_M.gguf?download=true#top", "model-Q4_K_M.gguf"],
  ["https://example.com", ""],
  ["https://", "https:"],
])("the file's name of %s is %s", (name, expected) => {
  expect(fileNameOf(name)).toBe(expected);
});
