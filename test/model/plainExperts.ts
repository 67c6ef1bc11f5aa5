import { writeFileSync } from "node:fs";
import { headerBytes, metadataOf } from "../../bench/model/header.mjs";
import { fillNormal, generator } from "../../bench/model/random.mjs";
import type { Shape } from "../../bench/model/shapes.mjs";
import { used } from "./added/experts.ts";
import { mixed, PlainModel, softmax } from "./plainModel.ts";

/** A model with experts (see `added/experts.ts`), small enough to be computed value by value. */
export class PlainExperts extends PlainModel {
  readonly #shape: Shape;
  readonly #tensors: ReadonlyMap<string, PlainTensor>;

  /** @param architecture - which of those that have experts */
  constructor(architecture: string) {
    const tensors = tensorsOf();
    super({ ...size, architecture }, new Map([...tensors].map(([name, { values }]) => [name, values])));
    this.#shape = { ...size, architecture };
    this.#tensors = tensors;
  }

  /** Writes the model as a GGUF file. */
  write(path: string): void {
    let offset = 0;
    const infos = [...this.#tensors].map(([name, { shape, values }]) => {
      const start = offset;
      offset = Math.ceil((offset + values.byteLength) / 32) * 32;
      return { name, shape: [...shape], typeId: 0, offset: start };
    });
    const header = headerBytes(metadataOf("experts", this.#shape, "F32"), infos);
    const file = Buffer.alloc(header.length + offset);
    header.copy(file);
    for (const [i, { values }] of [...this.#tensors.values()].entries()) {
      Buffer.from(values.buffer).copy(file, header.length + infos[i]!.offset);
    }
    writeFileSync(path, file);
  }

  protected override feedForward(layer: number, input: readonly number[]): number[] {
    const logits = this.times(`blk.${layer}.ffn_gate_inp`, input);
    const best = [...logits.keys()].sort((a, b) => logits[b]! - logits[a]!).slice(0, used);
    const outputs = best.map((expert) => this.gated(layer, `.${expert}`, input));
    return mixed(softmax(best.map((expert) => logits[expert]!)), outputs);
  }
}

interface PlainTensor {
  readonly shape: readonly number[];
  readonly values: Float32Array<ArrayBuffer>;
}

const count = 4;
const size = {
  ...{ layers: 3, embedding: 64, feedForward: 96, heads: 6, kvHeads: 3, headSize: 16, vocabulary: 320, context: 256 },
  ...{ ropeBase: 1e4, epsilon: 1e-5, preTokenizer: "gpt-2" as const },
};

function tensorsOf(): Map<string, PlainTensor> {
  const { embedding, feedForward, vocabulary } = size;
  const [query, keyValue] = [size.heads * size.headSize, size.kvHeads * size.headSize];
  const layer = (prefix: string): [string, number[]][] => [
    [`${prefix}attn_norm`, [embedding]],
    [`${prefix}attn_q`, [embedding, query]],
    [`${prefix}attn_k`, [embedding, keyValue]],
    [`${prefix}attn_v`, [embedding, keyValue]],
    [`${prefix}attn_output`, [query, embedding]],
    [`${prefix}ffn_norm`, [embedding]],
    [`${prefix}ffn_gate_inp`, [embedding, count]],
    ...Array.from({ length: count }, (_, i): [string, number[]][] => [
      [`${prefix}ffn_gate.${i}`, [embedding, feedForward]],
      [`${prefix}ffn_up.${i}`, [embedding, feedForward]],
      [`${prefix}ffn_down.${i}`, [feedForward, embedding]],
    ]).flat(),
  ];
  const all: [string, number[]][] = [
    ["token_embd", [embedding, vocabulary]],
    ...Array.from({ length: size.layers }, (_, i) => layer(`blk.${i}.`)).flat(),
    ["output_norm", [embedding]],
    ["output", [embedding, vocabulary]],
  ];
  return new Map(all.map(([stem, shape]) => [`${stem}.weight`, { shape, values: valuesOf(stem, shape) }]));
}

function valuesOf(stem: string, shape: readonly number[]): Float32Array<ArrayBuffer> {
  const values = new Float32Array(shape.reduce((product, length) => product * length, 1));
  const isNorm = shape.length === 1;
  fillNormal(values, generator(stem), isNorm ? 0.1 : 1 / Math.sqrt(shape[0]!), isNorm ? 2 : 0);
  return values;
}
