import { type Context, type Ggml, type Graph, required, ropeModes, type Tensor } from "../native/ggml.ts";
import type { NormParameters } from "./hyperparameters.ts";
import type { RopeParameters } from "./rope.ts";

/** `GGML_PREC_F32`: attention accumulates in f32. */
const precisionF32 = 10;

/** Which cells of a layer's keys or values to look at. */
export interface CellsView {
  /** Values of a head. */
  readonly length: number;
  /** Cells of each slot. */
  readonly cells: number;
  readonly heads: number;
  /** Bytes of one head of one cell. */
  readonly headBytes: number;
  /** Cells of each slot that are skipped before those. */
  readonly skipped: number;
  /** The first slot. */
  readonly slot: number;
  readonly slots: number;
  /** Cells that each slot has room for. */
  readonly slotCells: number;
}

/** How heads lie in columns. */
export interface HeadsView {
  /** Values of a head. */
  readonly length: number;
  readonly heads: number;
  readonly columns: number;
}

/** Factor on attention scores, and their soft cap after that (0: none). */
export interface ScoreParameters {
  readonly scale: number;
  readonly softcap: number;
  /** (heads) f32: one more score for each head, of no value; null: none. */
  readonly sinks: Tensor | null;
}

/** The product of a gate's activation and another value. */
export type GatedActivation = "silu" | "gelu" | "clamped-silu";

/**
 * Alpha and limit of gpt-oss's activation: with x the gate, at most the limit, and y the other value, within the limit on
 * both sides, it is x * sigmoid(alpha * x) * (y + 1).
 */
const clampedSwiglu = [1.702, 7] as const;

/** Builds one ggml graph. Shapes in comments are ggml's `ne`, the contiguous dimension first. */
export class GraphBuilder implements Disposable {
  readonly graph: Graph;
  readonly #ggml: Ggml;
  readonly #context: Context;

  /** @param nodes - at least as many as the graph will have operations and weights. */
  constructor(ggml: Ggml, nodes: number) {
    const mem_size = Number(ggml.graphOverhead(nodes, false)) + Number(ggml.tensorOverhead()) * nodes;
    this.#ggml = ggml;
    this.#context = required(ggml.init({ mem_size, mem_buffer: null, no_alloc: true }), "describing a graph");
    this.graph = ggml.newGraph(this.#context, nodes, false);
  }

  /** Makes the graph compute `tensor` and all that it depends on, after everything expanded before. */
  expand(tensor: Tensor): void {
    this.#ggml.buildForwardExpand(this.graph, tensor);
  }

  /** Like `expand`; the result can be read after computing. */
  output(tensor: Tensor): Tensor {
    this.#ggml.setOutput(tensor);
    this.expand(tensor);
    return tensor;
  }

  matMul(weight: Tensor, input: Tensor): Tensor {
    return this.#ggml.mulMat(this.#context, weight, input);
  }

  add(a: Tensor, b: Tensor): Tensor {
    return this.#ggml.add(this.#context, a, b);
  }

  /** The matrices of `weights`, (inputs, outputs, matrices), that `ids`, (count, columns), names: (outputs, count, columns). */
  matMulId(weights: Tensor, input: Tensor, ids: Tensor): Tensor {
    return this.#ggml.mulMatId(this.#context, weights, input, ids);
  }

  copy(from: Tensor, to: Tensor): Tensor {
    return this.#ggml.cpy(this.#context, from, to);
  }

  multiply(a: Tensor, b: Tensor): Tensor {
    return this.#ggml.mul(this.#context, a, b);
  }

  /** tensor * factor */
  scale(tensor: Tensor, factor: number): Tensor {
    return factor === 1 ? tensor : this.#ggml.scale(this.#context, tensor, factor);
  }

  /** cap * tanh(tensor / cap); `tensor` if `cap` is 0. */
  softcap(tensor: Tensor, cap: number): Tensor {
    if (cap === 0) return tensor;
    return this.scale(this.#ggml.tanh(this.#context, this.scale(tensor, 1 / cap)), cap);
  }

  /** A norm over each row, scaled by `weight`, if there is one. */
  norm(input: Tensor, weight: Tensor | null, { kind, epsilon }: NormParameters): Tensor {
    const norm = kind === "rms" ? this.#ggml.rmsNorm : this.#ggml.layerNorm;
    const normed = norm(this.#context, input, epsilon);
    return weight === null ? normed : this.#ggml.mul(this.#context, normed, weight);
  }

  /** The sum of squares of each column, divided by `count`: (1, columns). */
  meanSquares(input: Tensor, count: number): Tensor {
    const squares = this.#ggml.sqr(this.#context, input);
    return this.scale(this.#ggml.sumRows(this.#context, squares), 1 / count);
  }

  /** sqrt(tensor + epsilon) */
  root(tensor: Tensor, { epsilon }: NormParameters): Tensor {
    return this.#ggml.sqrt(this.#context, this.#ggml.scaleBias(this.#context, tensor, 1, epsilon));
  }

  /** Each column of `input` divided by a value of its own, `by`: (1, columns). */
  divideColumns(input: Tensor, by: Tensor): Tensor {
    return this.#ggml.div(this.#context, input, by);
  }

  /** silu(gate) * up, gelu(gate) * up, or the clamped product of gpt-oss: see `clampedSwiglu`. */
  gated(activation: GatedActivation, gate: Tensor, up: Tensor): Tensor {
    if (activation === "clamped-silu") return this.#ggml.swigluOai(this.#context, gate, up, ...clampedSwiglu);
    const product = activation === "silu" ? this.#ggml.swigluSplit : this.#ggml.gegluSplit;
    return product(this.#context, gate, up);
  }

  silu(tensor: Tensor): Tensor {
    return this.#ggml.silu(this.#context, tensor);
  }

  sigmoid(tensor: Tensor): Tensor {
    return this.#ggml.sigmoid(this.#context, tensor);
  }

  /** Of each column. */
  softmax(tensor: Tensor): Tensor {
    return this.#ggml.softMax(this.#context, tensor);
  }

  /** Indices of the `count` largest values of each column, the largest first: (count, columns) i32. */
  largest(tensor: Tensor, count: number): Tensor {
    return this.#ggml.argsortTopK(this.#context, tensor, count);
  }

  /** The rows of `from`, (length, rows, columns), that `rows`, (count, columns), names: (length, count, columns). */
  getRows(from: Tensor, rows: Tensor): Tensor {
    return this.#ggml.getRows(this.#context, from, rows);
  }

  /** The sum of each column: (1, columns). */
  sumRows(tensor: Tensor): Tensor {
    return this.#ggml.sumRows(this.#context, tensor);
  }

  /** Each column divided by its sum, or by `least` if that is larger. */
  normalized(tensor: Tensor, least: number): Tensor {
    const sums = this.#ggml.clamp(this.#context, this.sumRows(tensor), least, Number.POSITIVE_INFINITY);
    return this.#ggml.div(this.#context, tensor, sums);
  }

  /** A tensor of the same shape, whose values are all `value`. */
  filled(like: Tensor, value: number): Tensor {
    return this.#ggml.fill(this.#context, like, value);
  }

  /** Adds to `tensor`, (length, count, columns), the columns of `from` that `ids`, (count, columns), names. */
  addId(tensor: Tensor, from: Tensor, ids: Tensor): Tensor {
    return this.#ggml.addId(this.#context, tensor, from, ids);
  }

  setRows(into: Tensor, values: Tensor, rows: Tensor): Tensor {
    return this.#ggml.setRows(this.#context, into, values, rows);
  }

  reshape(tensor: Tensor, ne0: number, ne1: number, ne2?: number, ne3?: number): Tensor {
    if (ne2 === undefined) return this.#ggml.reshape2d(this.#context, tensor, ne0, ne1);
    if (ne3 === undefined) return this.#ggml.reshape3d(this.#context, tensor, ne0, ne1, ne2);
    return this.#ggml.reshape4d(this.#context, tensor, ne0, ne1, ne2, ne3);
  }

  /** The first `count` elements. */
  first(tensor: Tensor, count: number): Tensor {
    return this.#ggml.view1d(this.#context, tensor, count, 0);
  }

  /** `count` elements behind the first `skipped`. */
  slice(tensor: Tensor, skipped: number, count: number, elementBytes: number): Tensor {
    return this.#ggml.view1d(this.#context, tensor, count, skipped * elementBytes);
  }

  /** The last `count` of `length` elements of 4 bytes. */
  last(tensor: Tensor, length: number, count: number): Tensor {
    return count === length ? tensor : this.#ggml.view1d(this.#context, tensor, count, 4 * (length - count));
  }

  /** The last `count` of each of `rows` rows of `length` elements of 4 bytes, one row after the other. */
  lastOfRows(tensor: Tensor, rows: number, length: number, count: number): Tensor {
    if (count === length) return tensor;
    const lasts = this.#ggml.view2d(this.#context, tensor, count, rows, 4 * length, 4 * (length - count));
    return this.first(this.#ggml.cont(this.#context, lasts), rows * count);
  }

  /** `count` values behind the first `skipped` of each of `columns` columns of `length` values of 4 bytes. */
  partOfColumns(tensor: Tensor, length: number, columns: number, skipped: number, count: number): Tensor {
    return this.#ggml.view2d(this.#context, tensor, count, columns, 4 * length, 4 * skipped);
  }

  /** The last `count` of `columns` columns of `width` elements, which follow on each other. */
  lastColumns(tensor: Tensor, width: number, columns: number, count: number, elementBytes = 4): Tensor {
    if (count === columns) return tensor;
    const column = width * elementBytes;
    return this.#ggml.view2d(this.#context, tensor, width, count, column, column * (columns - count));
  }

  /** Like `lastColumns`, in memory of their own, so that they can take the place of the first ones. */
  copyOfLast(tensor: Tensor, width: number, columns: number, count: number): Tensor {
    if (count === columns) return tensor;
    return this.#ggml.cont(this.#context, this.lastColumns(tensor, width, columns, count));
  }

  /** The last `count` elements of (1, 1, elements), of 4 bytes. */
  lastOfThird(tensor: Tensor, elements: number, count: number): Tensor {
    if (count === elements) return tensor;
    return this.#ggml.view3d(this.#context, tensor, 1, 1, count, 4, 4, 4 * (elements - count));
  }

  /** `count` columns of (length, heads, columns) behind the first `skipped`, of 4-byte elements. */
  columnsByHead(tensor: Tensor, length: number, heads: number, skipped: number, count: number): Tensor {
    const [head, column] = [4 * length, 4 * length * heads];
    return this.#ggml.view3d(this.#context, tensor, length, heads, count, head, column, column * skipped);
  }

  /** `count` values of each head behind the first `skipped`, of (length, heads, columns) of 4-byte elements. */
  partOfHeads(tensor: Tensor, { length, heads, columns }: HeadsView, skipped: number, count: number): Tensor {
    const [head, column] = [4 * length, 4 * length * heads];
    return this.#ggml.view3d(this.#context, tensor, count, heads, columns, head, column, 4 * skipped);
  }

  /** (length, columns, heads) of (length, heads, columns), and the other way round. */
  swapHeads(tensor: Tensor): Tensor {
    return this.#ggml.permute(this.#context, tensor, 0, 2, 1, 3);
  }

  /** A copy whose elements follow on each other. */
  contiguous(tensor: Tensor): Tensor {
    return this.#ggml.cont(this.#context, tensor);
  }

  /** One tensor behind the other along a dimension, counted from 0. */
  concat(a: Tensor, b: Tensor, dimension: number): Tensor {
    return this.#ggml.concat(this.#context, a, b, dimension);
  }

  /** (length, cells, heads, slots) of the keys or values of a layer. */
  cells(tensor: Tensor, { length, cells, skipped, heads, headBytes, slot, slots, slotCells }: CellsView): Tensor {
    const cellBytes = headBytes * heads;
    const slotBytes = cellBytes * slotCells;
    const first = slot * slotBytes + skipped * cellBytes;
    if (slots === 1) {
      return this.#ggml.view3d(this.#context, tensor, length, cells, heads, cellBytes, headBytes, first);
    }
    const strides = [cellBytes, headBytes, slotBytes] as const;
    return this.#ggml.view4d(this.#context, tensor, length, cells, heads, slots, ...strides, first);
  }

  rope(input: Tensor, positions: Tensor, factors: Tensor | null, rope: RopeParameters): Tensor {
    const { dimensions, sections, mode, originalContext, freqBase, freqScale } = rope;
    const { extFactor, attnFactor, betaFast, betaSlow } = rope;
    const operands = [this.#context, input, positions, factors, dimensions] as const;
    const scaling = [originalContext, freqBase, freqScale, extFactor, attnFactor, betaFast, betaSlow] as const;
    return sections === undefined
      ? this.#ggml.ropeExt(...operands, ropeModes[mode], ...scaling)
      : this.#ggml.ropeMulti(...operands, Int32Array.from(sections), ropeModes[mode], ...scaling);
  }

  /**
   * softmax(softcap(q . k * scale) + mask) . v
   *
   * @param q - (length, heads, tokens, slots)
   * @param k - (length, cells, KV heads, slots)
   * @param v - (length, cells, KV heads, slots)
   * @param mask - (cells, tokens, 1, slots), f16: 0 where a token sees a cell, -Infinity elsewhere
   * @returns (length, heads, tokens, slots)
   */
  attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, { scale, softcap, sinks }: ScoreParameters): Tensor {
    const result = this.#ggml.flashAttnExt(this.#context, this.swapHeads(q), k, v, mask, scale, 0, softcap);
    this.#ggml.flashAttnSetPrecision(result, precisionF32);
    if (sinks !== null) this.#ggml.flashAttnAddSinks(result, sinks);
    return result;
  }

  [Symbol.dispose](): void {
    this.#ggml.free(this.#context);
  }
}
