import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, it, vi } from "vitest";
import { show } from "#stellium/cli/show";
import { buildGguf } from "../weights/ggufBuilder.ts";

const bundled = join(import.meta.dirname, "../../models/stellium-shakespeare-5m-q8_0.gguf");

async function shown(model: string, json: boolean): Promise<string> {
  const write = vi.spyOn(process.stdout, "write").mockReturnValue(true);
  await show({ model, json, offline: true }, new AbortController().signal);
  return write.mock.calls.map(([text]) => text).join("");
}

afterEach(() => vi.restoreAllMocks());

it("describes the bundled model for people", async () => {
  const text = await shown(bundled, false);
  expect(text).toContain("architecture  llama");
  expect(text).toMatch(/^ {2}Q8_0 +\d+ {2}[\d.]+ MB$/m);
  expect(text).toMatch(/^files +.*stellium-shakespeare-5m-q8_0\.gguf \(5\.12 MB\)$/m);
  expect(text).toMatch(/^ {2}bos +\d+ {2}"/m);
});

it("gives the same facts as one JSON object", async () => {
  const facts = JSON.parse(await shown(bundled, true));
  expect(facts).toMatchObject({ architecture: "llama", files: [{ path: bundled, bytes: 5_124_480 }] });
  expect(facts.tensor_types.reduce((sum: number, { count }: { count: number }) => sum + count, 0)).toBe(
    facts.tensor_count,
  );
  expect(facts.metadata["tokenizer.ggml.tokens"]).toEqual({
    type: `array of ${facts.tokenizer.vocabulary_size} strings`,
    length: facts.tokenizer.vocabulary_size,
  });
});

it("does not let a file write to the terminal", async () => {
  const path = join(await mkdtemp(join(tmpdir(), "stellium-show-")), "m.gguf");
  const hostile = "\u001b]0;owned\u0007";
  const entries = ["general.name", "general.architecture", "tokenizer.chat_template", `${hostile}.block_count`].map(
    (key) => [key, { type: "string", value: hostile }] as const,
  );
  await writeFile(path, buildGguf({ entries }));
  expect(await shown(path, false)).not.toContain("\u001b");
  expect(await shown(path, true)).not.toContain("\u001b");
});
