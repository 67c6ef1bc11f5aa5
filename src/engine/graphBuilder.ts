import { type Context, type Ggml, type Graph, required, ropeModes, type Tensor } from "../native/ggml.ts";
import type { RopeParameters } from "./hyperparameters.ts";

/** `GGML_PREC_F32`: attention accumulates in f32. */
const precisionF32 = 10;

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

  /** Has the graph compute `tensor` and all that it depends on, after what was asked for before. */
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

  copy(from: Tensor, to: Tensor): Tensor {
    return this.#ggml.cpy(this.#context, from, to);
  }

  /** RMS norm over each row, scaled by `weight`. */
  rmsNorm(input: Tensor, weight: Tensor, epsilon: number): Tensor {
    return this.#ggml.mul(this.#context, this.#ggml.rmsNorm(this.#context, input, epsilon), weight);
  }

  /** silu(gate) * up */
  swiglu(gate: Tensor, up: Tensor): Tensor {
    return this.#ggml.swigluSplit(this.#context, gate, up);
  }

  setRows(into: Tensor, values: Tensor, rows: Tensor): Tensor {
    return this.#ggml.setRows(this.#context, into, values, rows);
  }

  reshape(tensor: Tensor, ne0: number, ne1: number, ne2?: number): Tensor {
    if (ne2 === undefined) return this.#ggml.reshape2d(this.#context, tensor, ne0, ne1);
    return this.#ggml.reshape3d(this.#context, tensor, ne0, ne1, ne2);
  }

  /** The first `count` elements. */
  first(tensor: Tensor, count: number): Tensor {
    return this.#ggml.view1d(this.#context, tensor, count, 0);
  }

  /** The last `count` of `length` elements of 4 bytes. */
  last(tensor: Tensor, length: number, count: number): Tensor {
    return count === length ? tensor : this.#ggml.view1d(this.#context, tensor, count, 4 * (length - count));
  }

  /** The last `count` of `columns` columns of `width` elements, which follow on each other. */
  lastColumns(tensor: Tensor, width: number, columns: number, count: number, elementBytes = 4): Tensor {
    if (count === columns) return tensor;
    const column = width * elementBytes;
    return this.#ggml.view2d(this.#context, tensor, width, count, column, column * (columns - count));
  }

  /** (length, heads, rows) out of rows of `heads * length` elements, as (length, rows, heads). Strides are in bytes. */
  heads(tensor: Tensor, length: number, rows: number, heads: number, headBytes: number): Tensor {
    return this.#ggml.view3d(this.#context, tensor, length, rows, heads, headBytes * heads, headBytes, 0);
  }

  rope(input: Tensor, positions: Tensor, factors: Tensor | null, rope: RopeParameters): Tensor {
    return this.#ggml.ropeExt(
      this.#context,
      input,
      positions,
      factors,
      rope.dimensions,
      ropeModes[rope.mode],
      rope.originalContext,
      rope.freqBase,
      rope.freqScale,
      rope.extFactor,
      rope.attnFactor,
      rope.betaFast,
      rope.betaSlow,
    );
  }

  /**
   * softmax(q . k * scale + mask) . v
   *
   * @param q - (length, heads, tokens)
   * @param k - (length, cells, KV heads)
   * @param v - (length, cells, KV heads)
   * @param mask - (cells, tokens), f16: 0 where a token sees a cell, -Infinity elsewhere
   * @returns (length, heads, tokens)
   */
  attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: number): Tensor {
    const queries = this.#ggml.permute(this.#context, q, 0, 2, 1, 3);
    const result = this.#ggml.flashAttnExt(this.#context, queries, k, v, mask, scale, 0, 0);
    this.#ggml.flashAttnSetPrecision(result, precisionF32);
    return result;
  }

  [Symbol.dispose](): void {
    this.#ggml.free(this.#context);
  }
}
