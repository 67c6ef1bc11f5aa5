import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, it } from "vitest";
import type { Engine } from "#stellium/engine/engine";
import { argmax, engineDefaults, logSoftmax, startEngine } from "./oracle.ts";
import { type LinkOptions, Ranks } from "./ranks.ts";

const demo = fileURLToPath(new URL("../../models/stellium-shakespeare-5m-q8_0.gguf", import.meta.url));
const prompt = Array.from({ length: 40 }, (_, i) => (i * 37 + 11) % 1000);

/** What one device alone writes, and its logits at each position. */
interface Written {
  tokens: number[];
  logits: Float32Array[];
}

async function writeAlone(count: number): Promise<Written> {
  await using engine = await startEngine(demo);
  const written: Written = { tokens: [], logits: [] };
  let logits = await engine.step({ tokens: prompt, position: 0, outputs: 1 });
  for (let i = 0; i < count; i++) {
    written.logits.push(Float32Array.from(logits));
    written.tokens.push(argmax(logits));
    logits = await engine.step({ tokens: [written.tokens[i]!], position: prompt.length + i, outputs: 1 });
  }
  return written;
}

/** Follows those tokens. Returns the largest difference of the written tokens' log-probabilities. */
async function largestDifference(engine: Engine, { tokens, logits }: Written): Promise<number> {
  let largest = 0;
  let ours = await engine.step({ tokens: prompt, position: 0, outputs: 1 });
  for (const [i, token] of tokens.entries()) {
    largest = Math.max(largest, Math.abs(logSoftmax(ours)[token]! - logSoftmax(logits[i]!)[token]!));
    ours = await engine.step({ tokens: [token], position: prompt.length + i, outputs: 1 });
  }
  return largest;
}

describe("ranks that share a model", () => {
  let alone: Written;
  beforeAll(async () => {
    alone = await writeAlone(24);
  });

  it.each<[number[], LinkOptions, number]>([
    [[1], {}, 0],
    [[1, 1], {}, 0.1],
    [[1, 1], { collective: "star", cipher: "chacha20-poly1305" }, 0.1],
    [[2, 1, 3], { collective: "mesh" }, 0.1],
    [[1, 1, 1, 1], { collective: "ring" }, 0.1],
    [[3, 0, 1, 1, 2], { collective: "tree", cipher: "none" }, 0.1],
    [[0, 1, 1], {}, 0.1],
    [[1, 1, 1, 1, 1, 1, 1, 1], { collective: "exchange" }, 0.1],
    [[1, 1], { wire: "f16" }, 0.1],
    [[1, 1, 1], { wire: "q8_0" }, 0.5],
  ])("in proportion %j agree with one, linked by %j", async (shares, links, tolerance) => {
    await using ranks = await Ranks.start(demo, shares, engineDefaults, links);
    expect(await largestDifference(ranks.first, alone)).toBeLessThanOrEqual(tolerance);
  });
});
