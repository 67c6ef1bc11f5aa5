import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Engine } from "#stellium/engine/engine";
import type { Architecture } from "#stellium/model/architecture";
import { llama } from "#stellium/model/architectures/llama";
import { describeModel, type ModelDescription } from "#stellium/model/describeModel";
import type { GgufTensor } from "#stellium/weights/gguf/model";
import { readGguf } from "#stellium/weights/gguf/reader";
import { generateModel, shapes } from "../../bench/generateModel.mjs";
import type { Shape } from "../../bench/model/shapes.mjs";
import { Ranks } from "../engine/ranks.ts";
import { cutDescribed, streamedRanks } from "../engine/slices.ts";
import { described, exact, farthest, followsPlain, rounding, text } from "./followsPlain.ts";
import { PlainModel, type PlainTensors, softmax } from "./plainModel.ts";

/** The first layer sees a window of tokens, the second one everything. */
const window = 16;
const facts: Architecture = { ...llama, sinks: true, sliding: { period: 2, window } };
const size = {
  ...{ layers: 2, embedding: 64, feedForward: 96, heads: 6, kvHeads: 3, headSize: 16, vocabulary: 320, context: 256 },
  ...{ architecture: "llama", ropeBase: 1e4, epsilon: 1e-5, preTokenizer: "gpt-2", sinks: true },
} satisfies Shape;

const folder = mkdtempSync(join(tmpdir(), "stellium-test-"));
const path = join(folder, "sinks.gguf");
let whole: ModelDescription;
let expected: number[][];

beforeAll(async () => {
  Object.assign(shapes, { sinks: size });
  await generateModel({ shape: "sinks", type: "F32", path });
  whole = describeModel(await readGguf(path), facts);
  expected = (await PlainSinks.read(path, true)).logits(text);
});
afterAll(() => rmSync(folder, { recursive: true }));

/** The model of a file, computed value by value, with its sinks or without them. */
class PlainSinks extends PlainModel {
  readonly #sinks: boolean;

  static async read(file: string, sinks: boolean): Promise<PlainSinks> {
    const { buffer } = Uint8Array.from(readFileSync(file));
    const { tensors } = await readGguf(file);
    const values = ({ offset, bytes }: GgufTensor) => new Float32Array(buffer, offset, bytes / 4);
    return new PlainSinks(new Map([...tensors].map(([name, tensor]) => [name, values(tensor)])), sinks);
  }

  private constructor(tensors: PlainTensors, sinks: boolean) {
    super(size, tensors);
    this.#sinks = sinks;
  }

  protected override window(layer: number): number {
    return layer === 0 ? window : Infinity;
  }

  protected override weigh(layer: number, head: number, scores: readonly number[]): number[] {
    if (!this.#sinks) return softmax(scores);
    return softmax([...scores, this.values(`blk.${layer}.attn_sinks`)[head]!]).slice(0, -1);
  }
}

describe("attention with sinks gives what is computed value by value", () => {
  it("in a model whose sinks matter", async () => {
    const without = (await PlainSinks.read(path, false)).logits(text.slice(0, 70));
    expect(farthest(without[69]!, expected[69]!)).toBeGreaterThan(100 * rounding);
  });

  it("on one device", async () => {
    await using one = await Engine.start({ ...described(whole, [1])[0]!, options: exact });
    await followsPlain(one, expected);
  });

  it.each([[[2, 1]], [[1, 1, 1]], [[0, 1]]])("on ranks with shares %j", async (shares) => {
    await using ranks = await Ranks.of(described(whole, shares), exact);
    await followsPlain(ranks.first, expected);
  });

  it("on ranks that stream their slices", async () => {
    const cut = await cutDescribed(whole, [1, 2], folder);
    await using ranks = await Ranks.of(await streamedRanks(cut, 2), { ...exact, graphs: "block" });
    expect(ranks.first.statistics.windowBytes).toBeGreaterThan(0);
    await followsPlain(ranks.first, expected);
  });
});

describe("norms of Q and K that a model may lack", () => {
  const optional: Architecture = { ...llama, qkNorm: "head", qkNormOptional: true };
  const roles = async (qkNorm: "head" | undefined) => {
    Object.assign(shapes, { norms: { ...size, sinks: false, ...(qkNorm && { qkNorm }) } });
    await generateModel({ shape: "norms", type: "F32", path: join(folder, "norms.gguf") });
    const { blocks } = describeModel(await readGguf(join(folder, "norms.gguf")), optional);
    return [blocks[0], blocks[0]!.weights.map(({ role }) => role).filter((role) => role.includes("q_norm"))] as const;
  };

  it("are applied where they are, and only there", async () => {
    const [having, ofHaving] = await roles("head");
    expect([having, ofHaving]).toEqual([expect.objectContaining({ qkNorm: "head" }), ["attn_q_norm.weight"]]);
    const [lacking, ofLacking] = await roles(undefined);
    expect([lacking, ofLacking]).toEqual([expect.objectContaining({ qkNorm: undefined }), []]);
  });
});
