import { describe, expect, it } from "vitest";
import { planModel, shapes, tensorBytes } from "../../bench/generateModel.mjs";
import { fillNormal, generator } from "../../bench/model/random.mjs";
import { channelLength } from "../../bench/model/routing.mjs";

const layers = 2;
const experts = 128;
const used = 8;
/** What matters of a quantized file is the same in this one. */
const plan = planModel({ shape: "qwen3-30b-a3b", type: "F32", layers });
const { embedding, routing } = shapes["qwen3-30b-a3b"];
const { growth } = routing;
/** What the text before leaves in hidden states outside the channel. */
const random = generator("text");

function specOf(wanted: string) {
  return plan.tensors.find(({ name }) => name === wanted)!;
}

function floats(name: string, start: number, end: number): Float32Array {
  const bytes = tensorBytes(specOf(name), start, end);
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
}

/** Hidden states before a router, as in a model whose blocks leave the channel alone. */
function hiddenStates(token: number, magnitude: number): Float32Array {
  const hidden = new Float32Array(embedding);
  fillNormal(hidden, random, 1);
  for (const [i, value] of floats("token_embd.weight", token, token + 1)
    .subarray(0, channelLength)
    .entries())
    hidden[i] = value / magnitude;
  return hidden;
}

/** The experts that each token chooses, layer after layer. */
function choices(tokens: readonly number[]): number[][] {
  const routers = Array.from({ length: layers }, (_, layer) => floats(`blk.${layer}.ffn_gate_inp.weight`, 0, experts));
  return tokens.map((token) =>
    routers.flatMap((router, layer) => {
      const logits = product(router, hiddenStates(token, Math.sqrt(growth * (layer + 0.5))));
      const best = [...logits.keys()].sort((a, b) => logits[b]! - logits[a]!);
      return best.slice(0, used).map((expert) => layer * experts + expert);
    }),
  );
}

function product(matrix: Float32Array, vector: Float32Array): Float64Array {
  const result = new Float64Array(matrix.length / vector.length);
  for (let i = 0; i < matrix.length; i++) {
    const row = Math.floor(i / vector.length);
    result[row] = result[row]! + matrix[i]! * vector[i % vector.length]!;
  }
  return result;
}

/** Share of the chosen experts that are among the least recently used quarter of all. */
function hitRate(chosen: readonly number[][]): number {
  const cached = new Set<number>();
  let hits = 0;
  for (const expert of chosen.flat()) {
    hits += Number(cached.delete(expert));
    cached.add(expert);
    if (cached.size > (layers * experts) / 4) cached.delete(cached.values().next().value!);
  }
  return hits / chosen.flat().length;
}

/** Text that stays with a topic for five tokens. */
const text = Array.from({ length: 160 }, (_, i) => ((Math.floor(i / 5) * 7) % 16) + 16 * ((i * 4241) % 9000));

describe("the experts that tokens of a random model choose", () => {
  const chosen = choices(text);
  const hits = hitRate(chosen);

  it("are among the quarter of all that was used last half of the time", () => {
    expect(hits).toBeGreaterThan(0.45);
    expect(hits).toBeLessThan(0.65);
  });

  it("are there more often than by chance, and most often when tokens of a topic follow each other", () => {
    const scattered = hitRate(chosen.map((_, i) => chosen[(i * 63) % chosen.length]!));
    expect(scattered).toBeGreaterThan(0.3);
    expect(hits).toBeGreaterThan(scattered + 0.1);
  });

  it("are not all the same ones", () => {
    expect(new Set(chosen.flat()).size).toBeGreaterThan((layers * experts) / 2);
  });
});

it("no block writes to the channel from the embedding to the routers", () => {
  for (const name of ["blk.1.attn_output.weight", "blk.1.ffn_down_exps.weight"]) {
    for (const expert of specOf(name).shape.length > 2 ? [0, 5] : [0]) {
      const first = expert * embedding;
      expect(floats(name, first, first + channelLength).every((value) => value === 0)).toBe(true);
      expect(floats(name, first + channelLength, first + channelLength + 1).some((value) => value !== 0)).toBe(true);
    }
  }
});
