import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { loadModel, serve } from "#stellium/index";
import { embed } from "#stellium/serving/embedText";
import { TextModel } from "#stellium/serving/textModel";
import { generateModel, shapes } from "../../bench/generateModel.mjs";
import { FakeModel } from "./fakeRanks.ts";

const folder = mkdtempSync(join(tmpdir(), "stellium-test-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** Of length 1. */
function unit(values: readonly number[]): number[] {
  const length = Math.hypot(...values);
  return values.map((value) => value / length);
}

function expectClose(vector: Float32Array, expected: readonly number[]): void {
  expect(vector.length).toBe(expected.length);
  for (const [i, value] of expected.entries()) expect(vector[i]).toBeCloseTo(value, 4);
}

describe("hidden states, which come in several batches, are pooled to", () => {
  const tokens = Array.from({ length: 40 }, (_, i) => (i % 7) + 3);
  const mean = tokens.reduce((sum, token) => sum + token, 0) / tokens.length;

  it.each([
    ["mean", mean],
    ["cls", tokens[0]!],
    ["last", tokens.at(-1)!],
  ] as const)("%s", async (pooling, first) => {
    await using model = new FakeModel({ batch: 16 });
    expectClose(await embed({ ...model.requestModel, pooling }, tokens), unit([first, 1]));
  });
});

it("a model's own pooling is that of its embeddings, in the library and over HTTP, too", async () => {
  const path = join(folder, "last.gguf");
  const keys = { pooling_type: { type: "u32", value: 3 } } as const;
  Object.assign(shapes, { "tiny-last": { ...shapes["tiny-qwen3"], layers: 2, keys } });
  await generateModel({ shape: "tiny-last", type: "Q8_0", path });
  await using model = await TextModel.open(path, { threads: 1, context: 256 });
  const input = "a text of some tokens";
  const tokens = await model.encodePrompt(input);
  const vector = await model.embed(tokens);
  const states = await model.coordinator.step({ tokens, position: 0, outputs: tokens.length, hidden: true });
  expectClose(vector, unit([...states.slice(-vector.length)]));
  await using library = await loadModel(path, { threads: 1, context: 256 });
  expectClose(await library.embed(input), [...vector]);
  await using server = await serve({ model: path, port: 0, threads: 1, context: 256 });
  const request = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ input }) };
  const response = await fetch(`${server.url}/v1/embeddings`, request);
  const { data } = (await response.json()) as { data: { embedding: number[] }[] };
  expectClose(vector, data[0]!.embedding);
});
