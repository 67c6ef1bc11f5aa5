import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Engine } from "#stellium/engine/engine";
import type { EngineOptions } from "#stellium/engine/protocol";
import type { Architecture } from "#stellium/model/architecture";
import { llama } from "#stellium/model/architectures/llama";
import { describeModel, type ModelDescription } from "#stellium/model/describeModel";
import { rankDescription } from "#stellium/plan/rankDescription";
import { planShares } from "#stellium/plan/shares";
import type { GgufTensor } from "#stellium/weights/gguf/model";
import { readGguf } from "#stellium/weights/gguf/reader";
import { generateModel, shapes } from "../../bench/generateModel.mjs";
import type { Shape } from "../../bench/model/shapes.mjs";
import { engineDefaults } from "../engine/oracle.ts";
import { Ranks } from "../engine/ranks.ts";
import { cutDescribed, streamedRanks } from "../engine/slices.ts";
import { PlainModel, type PlainTensors, softmax } from "./plainModel.ts";

/** The first layer sees a window of tokens, the second one everything. */
const window = 16;
const facts: Architecture = { ...llama, sinks: true, sliding: { period: 2, window } };
const size = {
  ...{ layers: 2, embedding: 64, feedForward: 96, heads: 6, kvHeads: 3, headSize: 16, vocabulary: 320, context: 256 },
  ...{ architecture: "llama", ropeBase: 1e4, epsilon: 1e-5, preTokenizer: "gpt-2", sinks: true },
} satisfies Shape;
const text = Array.from({ length: 96 }, (_, i) => (i * 53 + 7) % 300);
/** F32 throughout, so that nothing but the order of sums differs from values computed one by one. */
const exact: EngineOptions = { ...engineDefaults, kvType: "f32", context: 128, batch: 128, slots: 2, outputs: 4 };
const rounding = 2e-3;

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

/** Prompts of two sequences in one pass, which ranks divide, and then tokens of both side by side. */
async function followsPlain(first: Engine): Promise<void> {
  const starts = [70, 40];
  const prompts = starts.map((end, slot) => ({ slot, tokens: text.slice(0, end), position: 0, outputs: 1 }));
  compare(await first.step(prompts), starts);
  for (let i = 0; i < 3; i++) {
    const at = starts.map((start) => start + i);
    const next = at.map((position, slot) => ({ slot, tokens: [text[position]!], position, outputs: 1 }));
    compare(
      await first.step(next),
      at.map((position) => position + 1),
    );
  }
}

/** @param counts - of the tokens before each row of logits */
function compare(logits: Float32Array, counts: readonly number[]): void {
  const width = logits.length / counts.length;
  for (const [row, count] of counts.entries()) {
    expect(farthest(expected[count - 1]!, logits.subarray(row * width, (row + 1) * width))).toBeLessThan(rounding);
  }
}

function farthest(a: readonly number[], b: ArrayLike<number>): number {
  return Math.max(...a.map((value, i) => Math.abs(value - b[i]!)));
}

const described = (shares: readonly number[]) =>
  shares.map((_, rank) => ({ description: rankDescription(whole, planShares(whole, shares), rank) }));

describe("attention with sinks gives what is computed value by value", () => {
  it("in a model whose sinks matter", async () => {
    const without = (await PlainSinks.read(path, false)).logits(text.slice(0, 70));
    expect(farthest(without[69]!, expected[69]!)).toBeGreaterThan(100 * rounding);
  });

  it("on one device", async () => {
    await using one = await Engine.start({ ...described([1])[0]!, options: exact });
    await followsPlain(one);
  });

  it.each([[[2, 1]], [[1, 1, 1]], [[0, 1]]])("on ranks with shares %j", async (shares) => {
    await using ranks = await Ranks.of(described(shares), exact);
    await followsPlain(ranks.first);
  });

  it("on ranks that stream their slices", async () => {
    const cut = await cutDescribed(whole, [1, 2], folder);
    await using ranks = await Ranks.of(await streamedRanks(cut, 2), { ...exact, graphs: "block" });
    expect(ranks.first.statistics.windowBytes).toBeGreaterThan(0);
    await followsPlain(ranks.first);
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
