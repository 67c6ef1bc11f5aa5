import { writeFileSync } from "node:fs";
import { headerBytes, metadataOf } from "../../bench/model/header.mjs";
import { fillNormal, generator } from "../../bench/model/random.mjs";
import type { Shape } from "../../bench/model/shapes.mjs";
import { used } from "./added/experts.ts";

/** A model with experts (see `added/experts.ts`), small enough to be computed value by value. */
export class PlainExperts {
  readonly #shape: Shape;
  readonly #tensors: ReadonlyMap<string, PlainTensor>;

  /**
   * @param architecture - which of those that have experts
   * @param tied - True for experts of which three each are the same function, and as likely but for rounding. The router
   * chooses two of three; which ones does not matter, as long as all ranks choose the same: columns are in other places
   */
  constructor(architecture: string, tied = false) {
    this.#shape = { ...size, architecture };
    this.#tensors = tensorsOf(tied ? tiedExperts : distinctExperts);
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

  /** The logits after each token of a text. */
  logits(tokens: readonly number[]): number[][] {
    const { embedding, layers } = size;
    const table = this.#tensor("token_embd.weight").values;
    let states = tokens.map((token) => [...table.subarray(token * embedding, (token + 1) * embedding)]);
    for (let layer = 0; layer < layers; layer++) {
      states = this.#attention(layer, states);
      states = states.map((state) => added(state, this.#experts(layer, this.#normed(`blk.${layer}.ffn_norm`, state))));
    }
    return states.map((state) => this.#times("output", this.#normed("output_norm", state)));
  }

  #attention(layer: number, states: readonly number[][]): number[][] {
    const { headSize, heads, kvHeads } = size;
    const inputs = states.map((state) => this.#normed(`blk.${layer}.attn_norm`, state));
    const heads3 = (part: string, turns: boolean) =>
      inputs.map((input, position) => {
        const all = this.#times(`blk.${layer}.attn_${part}`, input);
        const byHead = Array.from({ length: all.length / headSize }, (_, i) =>
          all.slice(i * headSize, (i + 1) * headSize),
        );
        return turns ? byHead.map((values) => turned(values, position)) : byHead;
      });
    const [q, k, v] = [heads3("q", true), heads3("k", true), heads3("v", false)];
    return states.map((state, at) => {
      const attended = q[at]!.flatMap((query, head) => {
        const from = Math.floor(head / (heads / kvHeads));
        const seen = k.slice(0, at + 1).map((keys) => dot(query, keys[from]!) / Math.sqrt(headSize));
        return mixed(
          softmax(seen),
          v.slice(0, at + 1).map((values) => values[from]!),
        );
      });
      return added(state, this.#times(`blk.${layer}.attn_output`, attended));
    });
  }

  #experts(layer: number, input: readonly number[]): number[] {
    const prefix = `blk.${layer}.ffn`;
    const logits = this.#times(`${prefix}_gate_inp`, input);
    const best = [...logits.keys()].sort((a, b) => logits[b]! - logits[a]!).slice(0, used);
    const outputs = best.map((expert) => {
      const gate = this.#times(`${prefix}_gate.${expert}`, input);
      const up = this.#times(`${prefix}_up.${expert}`, input);
      const gated = gate.map((value, i) => (value / (1 + Math.exp(-value))) * up[i]!);
      return this.#times(`${prefix}_down.${expert}`, gated);
    });
    return mixed(softmax(best.map((expert) => logits[expert]!)), outputs);
  }

  #times(stem: string, input: readonly number[]): number[] {
    const { shape, values } = this.#tensor(`${stem}.weight`);
    const [inputs, outputs] = [shape[0]!, shape[1]!];
    return Array.from({ length: outputs }, (_, row) => dot(values.subarray(row * inputs, (row + 1) * inputs), input));
  }

  #normed(stem: string, state: readonly number[]): number[] {
    const { values } = this.#tensor(`${stem}.weight`);
    const root = Math.sqrt(dot(state, state) / state.length + size.epsilon);
    return state.map((value, i) => (value / root) * values[i]!);
  }

  #tensor(name: string): PlainTensor {
    return this.#tensors.get(name)!;
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

function turned(values: readonly number[], position: number): number[] {
  return values.map((value, i) => {
    const pair = i - (i % 2);
    const angle = position * size.ropeBase ** (-pair / values.length);
    const other = i % 2 === 0 ? -values[i + 1]! : values[i - 1]!;
    return value * Math.cos(angle) + other * Math.sin(angle);
  });
}

function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
}

function softmax(values: readonly number[]): number[] {
  const most = Math.max(...values);
  const powers = values.map((value) => Math.exp(value - most));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

/** The sum of vectors, each by its weight. */
function mixed(weights: readonly number[], vectors: readonly number[][]): number[] {
  return vectors[0]!.map((_, i) => vectors.reduce((sum, vector, j) => sum + weights[j]! * vector[i]!, 0));
}

function added(a: readonly number[], b: readonly number[]): number[] {
  return a.map((value, i) => value + b[i]!);
}
