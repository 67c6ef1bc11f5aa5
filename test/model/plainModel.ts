import type { Shape } from "../../bench/model/shapes.mjs";

/** Values of tensors, by their names. */
export type PlainTensors = ReadonlyMap<string, Float32Array>;

/** A Llama that is computed value by value, in f64. */
export class PlainModel {
  readonly #size: Shape;
  readonly #tensors: PlainTensors;

  constructor(size: Shape, tensors: PlainTensors) {
    this.#size = size;
    this.#tensors = tensors;
  }

  /** The logits after each token of a text. */
  logits(tokens: readonly number[]): number[][] {
    const { embedding, layers } = this.#size;
    const table = this.values("token_embd");
    let states = tokens.map((token) => [...table.subarray(token * embedding, (token + 1) * embedding)]);
    for (let layer = 0; layer < layers; layer++) {
      states = this.#attention(layer, states);
      states = states.map((state) =>
        added(state, this.feedForward(layer, this.#normed(`blk.${layer}.ffn_norm`, state))),
      );
    }
    return states.map((state) => this.times("output", this.#normed("output_norm", state)));
  }

  /** Tokens that a token sees in a layer, itself included. */
  protected window(_layer: number): number {
    return Infinity;
  }

  /** Weights of the tokens that a head of a layer sees, from its scores. */
  protected weigh(_layer: number, _head: number, scores: readonly number[]): number[] {
    return softmax(scores);
  }

  protected feedForward(layer: number, input: readonly number[]): number[] {
    return this.gated(layer, "", input);
  }

  /** A gated feed-forward network, whose names end in `suffix`. */
  protected gated(layer: number, suffix: string, input: readonly number[]): number[] {
    const times = (part: string, by: readonly number[]) => this.times(`blk.${layer}.ffn_${part}${suffix}`, by);
    const up = times("up", input);
    return times(
      "down",
      times("gate", input).map((value, i) => (value / (1 + Math.exp(-value))) * up[i]!),
    );
  }

  protected times(stem: string, input: readonly number[]): number[] {
    const matrix = this.values(stem);
    const row = (at: number) => matrix.subarray(at * input.length, (at + 1) * input.length);
    return Array.from({ length: matrix.length / input.length }, (_, at) => dot(row(at), input));
  }

  protected values(stem: string): Float32Array {
    return this.#tensors.get(`${stem}.weight`)!;
  }

  #attention(layer: number, states: readonly number[][]): number[][] {
    const { headSize, heads, kvHeads } = this.#size;
    const inputs = states.map((state) => this.#normed(`blk.${layer}.attn_norm`, state));
    const [q, k, v] = (["q", "k", "v"] as const).map((part) => this.#heads(layer, part, inputs));
    return states.map((state, at) => {
      const from = Math.max(0, at + 1 - this.window(layer));
      const attended = q![at]!.flatMap((query, head) => {
        const group = Math.floor(head / (heads / kvHeads));
        const seen = (of: readonly number[][][]) => of.slice(from, at + 1).map((values) => values[group]!);
        const scores = seen(k!).map((key) => dot(query, key) / Math.sqrt(headSize));
        return mixed(this.weigh(layer, head, scores), seen(v!));
      });
      return added(state, this.times(`blk.${layer}.attn_output`, attended));
    });
  }

  /** Q, K or V of all tokens, by heads. */
  #heads(layer: number, part: "q" | "k" | "v", inputs: readonly number[][]): number[][][] {
    const { headSize, ropeBase } = this.#size;
    return inputs.map((input, position) => {
      const all = this.times(`blk.${layer}.attn_${part}`, input);
      const head = (at: number) => all.slice(at * headSize, (at + 1) * headSize);
      const byHead = Array.from({ length: all.length / headSize }, (_, at) => head(at));
      return part === "v" ? byHead : byHead.map((values) => turned(values, position, ropeBase));
    });
  }

  #normed(stem: string, state: readonly number[]): number[] {
    const weights = this.values(stem);
    const root = Math.sqrt(dot(state, state) / state.length + this.#size.epsilon);
    return state.map((value, i) => (value / root) * weights[i]!);
  }
}

/** The sum of vectors, each by its weight. */
export function mixed(weights: readonly number[], vectors: readonly number[][]): number[] {
  return vectors[0]!.map((_, i) => vectors.reduce((sum, vector, j) => sum + weights[j]! * vector[i]!, 0));
}

export function softmax(values: readonly number[]): number[] {
  const most = Math.max(...values);
  const powers = values.map((value) => Math.exp(value - most));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

function turned(values: readonly number[], position: number, base: number): number[] {
  return values.map((value, i) => {
    const pair = i - (i % 2);
    const angle = position * base ** (-pair / values.length);
    const other = i % 2 === 0 ? -values[i + 1]! : values[i - 1]!;
    return value * Math.cos(angle) + other * Math.sin(angle);
  });
}

function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
}

function added(a: readonly number[], b: readonly number[]): number[] {
  return a.map((value, i) => value + b[i]!);
}
