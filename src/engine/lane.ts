import { type BatchLayout, type BatchShape, type ColumnSpan, type Run, seenCells } from "../model/batch.ts";
import type { PassInputs } from "../model/blocks/block.ts";
import type { GraphBuilder } from "../model/graphBuilder.ts";
import type { TemperatureScale } from "../model/hyperparameters.ts";
import {
  type Buffer,
  type Context,
  type Device,
  type Ggml,
  type Pointer,
  required,
  type Tensor,
} from "../native/ggml.ts";
import { viewFloats } from "../native/memory.ts";
import { tensorTypes } from "../native/tensorTypes.ts";
import { describingContext } from "../weights/layout.ts";
import { FirstValues } from "./firstValues.ts";
import type { PartialSums } from "./reducer.ts";

/** How large a lane is. */
export interface LaneSize {
  readonly embeddingLength: number;
  /** Most tokens of a step. */
  readonly tokens: number;
  /** Cells of each slot of the KV cache. */
  readonly slotCells: number;
  /** Windows of tokens that attention blocks have (0: none), each once. */
  readonly windows: readonly number[];
  readonly temperature: TemperatureScale | undefined;
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
  /** `partial` as the host sees it. */
  readonly #partialAddress: Pointer;
  readonly #partialValues: FirstValues;
  readonly #positions: Tensor;
  readonly #cells: Tensor;
  /** By window. */
  readonly #masks: ReadonlyMap<number, Tensor>;
  readonly #queryScales: Tensor | undefined;

  constructor(ggml: Ggml, device: Device, size: LaneSize) {
    const { F32, F16, I32, I64 } = tensorTypes;
    this.#ggml = ggml;
    this.#size = size;
    this.#context = describingContext(ggml, 5 + size.windows.length);
    this.#hidden = ggml.newTensor2d(this.#context, F32.id, size.embeddingLength, size.tokens);
    this.#partial = ggml.newTensor2d(this.#context, F32.id, size.embeddingLength, size.tokens);
    this.#positions = ggml.newTensor1d(this.#context, I32.id, size.tokens);
    this.#cells = ggml.newTensor1d(this.#context, I64.id, size.tokens);
    const mask = () => ggml.newTensor1d(this.#context, F16.id, size.tokens * size.slotCells);
    this.#masks = new Map(size.windows.map((window) => [window, mask()]));
    if (size.temperature) this.#queryScales = ggml.newTensor1d(this.#context, F32.id, size.tokens);
    const buffer = ggml.allocateTensors(this.#context, ggml.deviceBufferType(device));
    this.#buffer = required(buffer, "making room for inputs");
    this.#partialAddress = required(ggml.getData(this.#partial), "reading partial sums");
    this.#partialValues = new FirstValues(viewFloats(this.#partialAddress, size.embeddingLength * size.tokens));
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
    const values = this.#partialValues.of(this.#size.embeddingLength * columns);
    return { address: this.#partialAddress, values };
  }

  inputs(builder: GraphBuilder, { tokens, spans }: BatchShape): PassInputs {
    return {
      positions: builder.first(this.#positions, tokens),
      cells: builder.first(this.#cells, tokens),
      queryScales: this.#queryScales ? builder.reshape(builder.first(this.#queryScales, tokens), 1, 1, tokens) : null,
      masks: (window) => this.#masksOf(builder, spans, window),
    };
  }

  /** @param embeddings - (embedding length, tokens), in the order of the step's parts */
  fill({ runs, shape }: BatchLayout, embeddings: Float32Array): void {
    const { slotCells } = this.#size;
    const positions = runs.flatMap(({ tokens, position }) => Array.from({ length: tokens }, (_, i) => position + i));
    const slots = runs.flatMap(({ tokens, slot }) => Array<number>(tokens).fill(slot));
    this.#fillHidden(runs, embeddings);
    this.#set(this.#positions, Int32Array.from(positions));
    this.#set(
      this.#cells,
      BigInt64Array.from(positions, (position, i) => BigInt(slots[i]! * slotCells + position)),
    );
    for (const [window, mask] of this.#masks) this.#set(mask, causalMasks(runs, shape, window));
    this.#fillQueryScales(positions);
  }

  [Symbol.dispose](): void {
    this.#ggml.freeBuffer(this.#buffer);
    this.#ggml.free(this.#context);
  }

  #columns(builder: GraphBuilder, states: Tensor, columns: number): Tensor {
    const { embeddingLength } = this.#size;
    return builder.reshape(builder.first(states, embeddingLength * columns), embeddingLength, columns);
  }

  #fillHidden(runs: readonly Run[], embeddings: Float32Array): void {
    const { embeddingLength } = this.#size;
    let column = 0;
    for (const { source, tokens } of runs) {
      const rows = embeddings.subarray(source * embeddingLength, (source + tokens) * embeddingLength);
      this.#set(this.#hidden, rows, 4 * embeddingLength * column);
      column += tokens;
    }
  }

  #fillQueryScales(positions: readonly number[]): void {
    const { temperature } = this.#size;
    if (this.#queryScales === undefined || temperature === undefined) return;
    const { scale, length } = temperature;
    this.#set(
      this.#queryScales,
      Float32Array.from(positions, (position) => 1 + scale * Math.log(1 + Math.floor(position / length))),
    );
  }

  /** The mask of each span, one after the other. */
  #masksOf(builder: GraphBuilder, spans: readonly ColumnSpan[], window: number): Tensor[] {
    let first = 0;
    return spans.map((span) => {
      const { slots, tokens } = span;
      const { cells } = seenCells(span, window);
      const elements = cells * tokens * slots;
      const mask = builder.slice(this.#masks.get(window)!, first, elements, 2);
      first += elements;
      return builder.reshape(mask, cells, tokens, ...(slots === 1 ? [] : [1, slots]));
    });
  }

  #set(tensor: Tensor, values: Float32Array | Int32Array | BigInt64Array | Uint16Array, offset = 0): void {
    if (values.length === 0) return;
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    this.#ggml.setTensor(tensor, bytes, offset, bytes.length);
  }
}

/**
 * The masks of all spans, (cells, tokens) f16 for each slot: a token sees its own cell and those before it, or as many of
 * them as its window has.
 */
function causalMasks(runs: readonly Run[], { spans }: BatchShape, window: number): Uint16Array {
  const seen = spans.map((span) => ({ ...span, ...seenCells(span, window) }));
  const mask = new Uint16Array(seen.reduce((sum, { cells, tokens, slots }) => sum + cells * tokens * slots, 0));
  mask.fill(maskedF16);
  const ofRuns = seen.flatMap((span) => Array<typeof span>(span.slots).fill(span));
  let row = 0;
  for (const [i, { tokens, position }] of runs.entries()) {
    const { cells, skipped } = ofRuns[i]!;
    for (let token = 0; token < tokens; token++) {
      const end = position + token + 1;
      const start = window === 0 ? 0 : Math.max(0, end - window);
      mask.fill(0, row + start - skipped, row + end - skipped);
      row += cells;
    }
  }
  return mask;
}
