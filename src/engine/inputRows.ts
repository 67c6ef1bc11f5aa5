import { GraphBuilder } from "../model/graphBuilder.ts";
import { type Hyperparameters, jointInputs } from "../model/hyperparameters.ts";
import type { ComputeBackend } from "../native/backend.ts";
import { type Buffer, type Context, type Ggml, required, type Tensor } from "../native/ggml.ts";
import { tensorTypes } from "../native/tensorTypes.ts";
import type { RankDescription } from "../plan/rankDescription.ts";
import { describingContext } from "../weights/layout.ts";
import type { Weights } from "../weights/weights.ts";
import { Embedding } from "./embedding.ts";
import { type BuiltGraphs, computeGraph, GraphCache } from "./graphCache.ts";

export interface InputParts {
  readonly ggml: Ggml;
  readonly backend: ComputeBackend;
  readonly description: RankDescription;
  readonly weights: Weights;
}

/** Rows that rank 0 reads for each token of a pass: see `read`. */
export class InputRows implements Disposable {
  readonly #embeddingLength: number;
  readonly #embedding: Embedding;
  readonly #perLayer: PerLayerRows | undefined;

  /** Throws `FILE_UNREADABLE`. */
  constructor(parts: InputParts) {
    const { ggml, description } = parts;
    const { files, embedding, perLayer, hyperparameters: h } = description;
    this.#embeddingLength = h.embeddingLength;
    this.#embedding = new Embedding(ggml, files[embedding!.file]!, embedding!, h.embeddingScale);
    this.#perLayer = perLayer && new PerLayerRows(parts, perLayer);
  }

  /**
   * Fills `values`: (embedding length, tokens), the rows of the embedding, and then, if the model has embeddings for its
   * layers, (values for each layer * layers, tokens).
   */
  read(tokens: Int32Array, values: Float32Array): void {
    const length = this.#embeddingLength * tokens.length;
    const rows = values.subarray(0, length);
    this.#embedding.read(tokens, rows);
    this.#perLayer?.read(tokens, rows, values.subarray(length));
  }

  [Symbol.dispose](): void {
    this.#embedding[Symbol.dispose]();
    this.#perLayer?.[Symbol.dispose]();
  }
}

const nodes = 32;

/** Decoding asks for the same number of columns again and again. */
const keptGraphs = 1;

/** Embeddings of tokens for each layer: rows of a table, and a projection of the ordinary embedding that is added. */
class PerLayerRows implements Disposable {
  readonly #parts: InputParts;
  readonly #table: Embedding;
  readonly #context: Context;
  readonly #buffer: Buffer;
  /** (embedding length, columns) */
  readonly #states: Tensor;
  /** (values for all layers, columns): rows of the table, which are replaced by the result. */
  readonly #rows: Tensor;
  /** By number of columns. */
  readonly #graphs: GraphCache<number, BuiltGraphs>;

  constructor(parts: InputParts, { table }: NonNullable<RankDescription["perLayer"]>) {
    const { ggml, backend, description } = parts;
    const { files, hyperparameters: h } = description;
    this.#parts = parts;
    this.#table = new Embedding(ggml, files[table.file]!, table);
    this.#context = describingContext(ggml, 2);
    const { id } = tensorTypes.F32;
    this.#states = ggml.newTensor2d(this.#context, id, h.embeddingLength, jointInputs);
    this.#rows = ggml.newTensor2d(this.#context, id, perLayerValues(h), jointInputs);
    const type = ggml.deviceBufferType(backend.device);
    this.#buffer = required(ggml.allocateTensors(this.#context, type), "making room for inputs");
    this.#graphs = new GraphCache(ggml, backend, keptGraphs, "inputs");
  }

  /** @param states - (embedding length, tokens) @param values - (values for all layers, tokens), to be filled in */
  read(tokens: Int32Array, states: Float32Array, values: Float32Array): void {
    this.#table.read(tokens, values);
    const { embeddingLength, ...h } = this.#parts.description.hyperparameters;
    const width = perLayerValues(h);
    for (let first = 0; first < tokens.length; first += jointInputs) {
      const end = Math.min(first + jointInputs, tokens.length);
      const part = values.subarray(first * width, end * width);
      this.#compute(end - first, states.subarray(first * embeddingLength, end * embeddingLength), part);
    }
  }

  [Symbol.dispose](): void {
    const { ggml } = this.#parts;
    this.#graphs[Symbol.dispose]();
    ggml.freeBuffer(this.#buffer);
    ggml.free(this.#context);
    this.#table[Symbol.dispose]();
  }

  /** One that is stopped leaves values that nothing uses: so is the pass that they are for. */
  #compute(columns: number, states: Float32Array, values: Float32Array): void {
    const { ggml, backend } = this.#parts;
    const { builders } = this.#graphs.of(columns, () => ({ builders: [this.#build(columns)] }));
    ggml.setTensor(this.#states, bytesOf(states), 0, states.byteLength);
    ggml.setTensor(this.#rows, bytesOf(values), 0, values.byteLength);
    computeGraph(ggml, backend, builders[0]!);
    ggml.getTensor(this.#rows, bytesOf(values), 0, values.byteLength);
  }

  /** In the order in which llama.cpp computes them. */
  #build(columns: number): GraphBuilder {
    const { ggml, weights, description } = this.#parts;
    const h = description.hyperparameters;
    const builder = new GraphBuilder(ggml, nodes);
    const [length, layers] = [h.perLayerLength, h.blockCount];
    const of = (tensor: Tensor, width: number) =>
      builder.reshape(builder.first(tensor, width * columns), width, columns);
    const rows = of(this.#rows, length * layers);
    const product = builder.matMul(weights.get("per_layer_model_proj.weight"), of(this.#states, h.embeddingLength));
    const byLayer = builder.reshape(builder.scale(product, 1 / Math.sqrt(h.embeddingLength)), length, layers, columns);
    const projected = builder.norm(byLayer, weights.get("per_layer_proj_norm.weight"), h.norm);
    const own = builder.scale(builder.reshape(rows, length, layers, columns), Math.sqrt(length));
    const sum = builder.add(projected, own);
    const result = builder.reshape(builder.scale(sum, 1 / Math.sqrt(2)), length * layers, columns);
    builder.expand(builder.copy(result, rows));
    return builder;
  }
}

/** Values of a token's embeddings for all layers. */
function perLayerValues({
  perLayerLength,
  blockCount,
}: Pick<Hyperparameters, "perLayerLength" | "blockCount">): number {
  return perLayerLength * blockCount;
}

function bytesOf({ buffer, byteOffset, byteLength }: Float32Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}
