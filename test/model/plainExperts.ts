import { writeFileSync } from "node:fs";
import { headerBytes, metadataOf } from "../../bench/model/header.mjs";
import { fillNormal, generator } from "../../bench/model/random.mjs";
import type { Shape } from "../../bench/model/shapes.mjs";
import { used } from "./added/chosen.ts";
import { mixed, PlainModel, softmax } from "./plainModel.ts";

/** A model with experts (see `added/chosen.ts`), small enough to be computed value by value. */
export class PlainExperts extends PlainModel {
  readonly #shape: Shape;
  readonly #tensors: ReadonlyMap<string, PlainTensor>;

  /**
   * @param architecture - which of those that have experts
   * @param tied - True for experts of which three each are the same function, and as likely but for rounding. The router
   * chooses two of three; which ones does not matter, as long as all ranks choose the same: columns are in other places
   */
  constructor(architecture: string, tied = false) {
    const tensors = tensorsOf(tied ? tiedExperts : distinctExperts);
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

const size = {
  ...{ layers: 3, embedding: 64, feedForward: 96, heads: 6, kvHeads: 3, headSize: 16, vocabulary: 320, context: 256 },
  ...{ ropeBase: 1e4, epsilon: 1e-5, preTokenizer: "gpt-2" as const },
};

/** The values of an expert, by its number: its networks', and its row of the router's. */
interface Experts {
  readonly count: number;
  values(stem: string, shape: readonly number[], expert: number): Float32Array<ArrayBuffer>;
}

const distinctExperts: Experts = {
  count: 4,
  values: (stem, shape, expert) => valuesOf(`${stem}.${expert}`, shape),
};

const copies = 3;
const tiedExperts: Experts = {
  count: 2 * copies,
  values(stem, shape, expert) {
    const copy = expert % copies;
    const values = valuesOf(`${stem}.${(expert - copy) / copies}`, shape);
    if (stem.endsWith("gate_inp"))
      return values.map((value, i) => value * (1 + (((i + copy * i * i) % 3) - 1) * 2 ** -23));
    const turn = (size.feedForward / copies) * copy * (stem.endsWith("down") ? 1 : shape[0]!);
    const row = stem.endsWith("down") ? size.feedForward : values.length;
    return values.map((_, i) => values[i - (i % row) + ((i + turn) % row)]!);
  },
};

function tensorsOf(experts: Experts): Map<string, PlainTensor> {
  const { embedding, vocabulary } = size;
  const [query, keyValue] = [size.heads * size.headSize, size.kvHeads * size.headSize];
  const layer = (prefix: string): [string, number[]][] => [
    [`${prefix}attn_norm`, [embedding]],
    [`${prefix}attn_q`, [embedding, query]],
    [`${prefix}attn_k`, [embedding, keyValue]],
    [`${prefix}attn_v`, [embedding, keyValue]],
    [`${prefix}attn_output`, [query, embedding]],
    [`${prefix}ffn_norm`, [embedding]],
  ];
  const all: [string, number[]][] = [
    ["token_embd", [embedding, vocabulary]],
    ...Array.from({ length: size.layers }, (_, i) => layer(`blk.${i}.`)).flat(),
    ["output_norm", [embedding]],
    ["output", [embedding, vocabulary]],
  ];
  const ofLayers = Array.from({ length: size.layers }, (_, i) => expertTensors(`blk.${i}.ffn_`, experts));
  const others = all.map(([stem, shape]) => [`${stem}.weight`, { shape, values: valuesOf(stem, shape) }] as const);
  return new Map([...others, ...ofLayers.flat()]);
}

/** A layer's router and the networks that it chooses from. */
function expertTensors(prefix: string, { count, values }: Experts): (readonly [string, PlainTensor])[] {
  const { embedding, feedForward } = size;
  const numbers = Array.from({ length: count }, (_, i) => i);
  const rows = numbers.flatMap((i) => [...values(`${prefix}gate_inp`, [embedding, 1], i)]);
  const all = (part: string, shape: readonly number[]) =>
    numbers.map(
      (i) => [`${prefix}${part}.${i}.weight`, { shape, values: values(`${prefix}${part}`, shape, i) }] as const,
    );
  return [
    [`${prefix}gate_inp.weight`, { shape: [embedding, count], values: Float32Array.from(rows) }],
    ...all("gate", [embedding, feedForward]),
    ...all("up", [embedding, feedForward]),
    ...all("down", [feedForward, embedding]),
  ];
}

function valuesOf(stem: string, shape: readonly number[]): Float32Array<ArrayBuffer> {
  const values = new Float32Array(shape.reduce((product, length) => product * length, 1));
  const isNorm = shape.length === 1;
  fillNormal(values, generator(stem), isNorm ? 0.1 : 1 / Math.sqrt(shape[0]!), isNorm ? 2 : 0);
  return values;
}
