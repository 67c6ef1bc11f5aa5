import { existsSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import type { Engine } from "#stellium/engine/engine";
import type { KvType } from "#stellium/model/cells";
import { absentData, sharedData, skipIf } from "../skip.ts";
import { logSoftmax, startEngine } from "./oracle.ts";

const folder = `${sharedData("stories260K")}/`;
const absent = skipIf(!existsSync(folder), absentData("stories260K"));
const windowTokens = 255;

interface Reference {
  tokens: number[];
  windowNll: number[];
  perplexity: number;
}

/** exp of the mean negative log-likelihood over windows of a beginning-of-sequence token and 255 more. */
async function perplexity(engine: Engine, { tokens, windowNll }: Reference): Promise<number> {
  const size = engine.description.hyperparameters.vocabularySize;
  let sum = 0;
  for (let window = 0; window < windowNll.length; window++) {
    const chunk = tokens.slice(window * windowTokens, (window + 1) * windowTokens);
    const logits = await engine.step({ tokens: [1, ...chunk.slice(0, -1)], position: 0, outputs: windowTokens });
    chunk.forEach((token, i) => {
      sum -= logSoftmax(logits.subarray(i * size, (i + 1) * size))[token]!;
    });
  }
  return Math.exp(sum / (windowNll.length * windowTokens));
}

describe("perplexity", absent, () => {
  const load = (): Record<string, Reference> =>
    JSON.parse(readFileSync(`${folder}stories260K.perplexity-f64.json`, "utf8"));

  it("of the F32 model is within 0.1 % of an independent float64 computation", async () => {
    await using engine = await startEngine(`${folder}stories260K-f32.gguf`, { outputs: windowTokens, kvType: "f32" });
    for (const reference of Object.values(load())) {
      expect(Math.abs((await perplexity(engine, reference)) / reference.perplexity - 1)).toBeLessThan(1e-3);
    }
  });

  it.each<[KvType, number]>([
    ["f32", 1e-4],
    ["f16", 1e-3],
  ])("changes little with a KV cache of %s", async (kvType, tolerance) => {
    await using engine = await startEngine(`${folder}stories260K-f16.gguf`, { outputs: windowTokens, kvType });
    const reference = load()["tinyshakespeare"]!;
    expect(Math.abs((await perplexity(engine, reference)) / reference.perplexity - 1)).toBeLessThan(tolerance + 1e-3);
  });
});

describe("published text", absent, () => {
  it.each(["f32", "f16"])("of stories260K is what the %s model writes", async (type) => {
    const { TextModel } = await import("#stellium/serving/textModel");
    const { defaultSampling } = await import("#stellium/serving/sampler");
    await using textModel = await TextModel.open(`${folder}stories260K-${type}.gguf`, {
      threads: 1,
      context: 512,
    });
    const published = readFileSync(`${folder}stories260K.karpathy-greedy-200.txt`, "utf8");
    const sampling = { ...defaultSampling, temperature: 0 };
    let text = "";
    const request = { prompt: await textModel.encodePrompt(""), maxTokens: 200, sampling };
    for await (const written of textModel.generate(request)) text += written.text;
    expect(text.trim().startsWith(published.trim())).toBe(true);
  });
});
