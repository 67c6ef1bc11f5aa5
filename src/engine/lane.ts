import { type Buffer, type Context, type Device, type Ggml, required, type Tensor } from "../native/ggml.ts";
import { viewFloats } from "../native/memory.ts";
import { tensorTypes } from "../weights/gguf/types.ts";
import { describingContext } from "../weights/layout.ts";
import type { BlockInputs, StepShape } from "./blocks.ts";
import type { GraphBuilder } from "./graphBuilder.ts";
import { paddedCells } from "./kvCache.ts";
import type { PartialSums } from "./reducer.ts";

/** Tokens of one sequence that pass through the blocks together. */
export interface Step {
  readonly tokens: number;
  /** Cell and position of the first token; the others follow. */
  readonly position: number;
  /** The last so many tokens get logits. */
  readonly outputs: number;
}

/** How large a lane is. */
export interface LaneSize {
  readonly embeddingLength: number;
  /** Most tokens of a step. */
  readonly tokens: number;
  /** Tokens the KV cache has room for. */
  readonly context: number;
}

const maskedF16 = 0xfc00;

/** The tensors through which tokens enter the graphs of a step, and in which they are kept between graphs. */
export class Lane implements Disposable {
  readonly #ggml: Ggml;
  readonly #context: Context;
  readonly #buffer: Buffer;
  readonly #size: LaneSize;
  readonly #hidden: Tensor;
  readonly #partial: Tensor;
  readonly #positions: Tensor;
  readonly #cells: Tensor;
  readonly #mask: Tensor;

  constructor(ggml: Ggml, device: Device, size: LaneSize) {
    const { F32, F16, I32, I64 } = tensorTypes;
    this.#ggml = ggml;
    this.#size = size;
    this.#context = describingContext(ggml, 5);
    this.#hidden = ggml.newTensor2d(this.#context, F32.id, size.embeddingLength, size.tokens);
    this.#partial = ggml.newTensor2d(this.#context, F32.id, size.embeddingLength, size.tokens);
    this.#positions = ggml.newTensor1d(this.#context, I32.id, size.tokens);
    this.#cells = ggml.newTensor1d(this.#context, I64.id, size.tokens);
    this.#mask = ggml.newTensor1d(this.#context, F16.id, size.tokens * paddedCells(size.context));
    const buffer = ggml.allocateTensors(this.#context, ggml.deviceBufferType(device));
    this.#buffer = required(buffer, "making room for inputs");
  }

  /** (embedding length, columns): hidden states. */
  hidden(builder: GraphBuilder, columns: number): Tensor {
    return this.#columns(builder, this.#hidden, columns);
  }

  /** (embedding length, columns): what the block before adds to the hidden states. */
  partial(builder: GraphBuilder, columns: number): Tensor {
    return this.#columns(builder, this.#partial, columns);
  }

  /** The first columns of `partial` as the host sees them. */
  partialSums(columns: number): PartialSums {
    const address = required(this.#ggml.getData(this.#partial), "reading partial sums");
    return { address, values: viewFloats(address, this.#size.embeddingLength * columns) };
  }

  inputs(builder: GraphBuilder, shape: StepShape): BlockInputs {
    return {
      positions: builder.first(this.#positions, shape.tokens),
      cells: builder.first(this.#cells, shape.tokens),
      mask: builder.reshape(builder.first(this.#mask, shape.cells * shape.tokens), shape.cells, shape.tokens),
    };
  }

  /** @param embeddings - (embedding length, tokens) */
  fill(step: Step, shape: StepShape, embeddings: Float32Array): void {
    const positions = Array.from({ length: step.tokens }, (_, i) => step.position + i);
    this.#set(this.#hidden, embeddings);
    this.#set(this.#positions, Int32Array.from(positions));
    this.#set(this.#cells, BigInt64Array.from(positions, BigInt));
    this.#set(this.#mask, causalMask(step, shape));
  }

  [Symbol.dispose](): void {
    this.#ggml.freeBuffer(this.#buffer);
    this.#ggml.free(this.#context);
  }

  #columns(builder: GraphBuilder, states: Tensor, columns: number): Tensor {
    const { embeddingLength } = this.#size;
    return builder.reshape(builder.first(states, embeddingLength * columns), embeddingLength, columns);
  }

  #set(tensor: Tensor, values: Float32Array | Int32Array | BigInt64Array | Uint16Array): void {
    if (values.length === 0) return;
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    this.#ggml.setTensor(tensor, bytes, 0, bytes.length);
  }
}

/** (cells, tokens) f16: a token sees its own cell and those before it. */
function causalMask(step: Step, { cells }: StepShape): Uint16Array {
  const mask = new Uint16Array(cells * step.tokens).fill(maskedF16);
  for (let token = 0; token < step.tokens; token++) {
    const row = token * cells;
    mask.fill(0, row, row + step.position + token + 1);
  }
  return mask;
}
