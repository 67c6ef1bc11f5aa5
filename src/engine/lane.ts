import { type BatchLayout, type BatchShape, type ColumnSpan, type Run, seenCells } from "../model/batch.ts";
import type {
  ChooseStep,
  ChosenInputs,
  ChosenValues,
  ExpertsStep,
  PassInputs,
  RankBlock,
} from "../model/blocks/block.ts";
import type { PassedOn } from "../model/blocks/definitions.ts";
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
import { viewFloats, viewIntegers } from "../native/memory.ts";
import { tensorTypes } from "../native/tensorTypes.ts";
import { describingContext } from "../weights/layout.ts";
import { mostCheckValues } from "./choices.ts";
import { FirstValues } from "./firstValues.ts";
import type { PartialSums } from "./reducer.ts";

type ChosenCounts = Pick<ChooseStep<RankBlock>, "ids" | "weights">;

/** How large a lane is. */
export interface LaneSize {
  readonly embeddingLength: number;
  /** Values of a token's embedding for each layer, and number of layers. */
  readonly perLayerLength: number;
  readonly blockCount: number;
  /** Most tokens of a pass. */
  readonly tokens: number;
  /** Cells of each slot of the KV cache. */
  readonly slotCells: number;
  /** Windows of tokens that attention blocks have (0: none), each once. */
  readonly windows: readonly number[];
  readonly temperature: TemperatureScale | undefined;
  /** Numbers that say where a token is: see `positionChannels`. */
  readonly channels: number;
  /** What blocks pass on between their graphs. */
  readonly passed: PassedOn;
}

const maskedF16 = 0xfc00;
/** Most blocks that one block guesses for. */
export const mostGuesses = 2;

/** The tensors through which tokens enter the graphs of a pass, and in which they are kept between graphs. */
export class Lane implements Disposable {
  /** Its number among those of a pass. */
  readonly index: number;
  readonly #ggml: Ggml;
  readonly #context: Context;
  readonly #buffer: Buffer;
  readonly #size: LaneSize;
  readonly #hidden: Tensor;
  readonly #perLayer: Tensor;
  readonly #partial: Tensor;
  /** `partial` as the host sees it. */
  readonly #partialAddress: Pointer;
  readonly #partialValues: FirstValues<Float32Array>;
  readonly #kept: Tensor;
  readonly #keptValues: Float32Array;
  /** The ids and weights of a choice, as graphs and as the host see them. */
  readonly #ids: Tensor;
  readonly #weights: Tensor;
  /** Ids of the choices that were guessed, of one block after the other. */
  readonly #guessed: Tensor;
  readonly #guessedValues: FirstValues<Int32Array>;
  readonly #idValues: FirstValues<Int32Array>;
  readonly #weightValues: FirstValues<Float32Array>;
  readonly #positions: Tensor;
  readonly #cells: Tensor;
  /** By window. */
  readonly #masks: ReadonlyMap<number, Tensor>;
  readonly #queryScales: Tensor | undefined;

  constructor(ggml: Ggml, device: Device, size: LaneSize, index: number) {
    const { F32, F16, I32, I64 } = tensorTypes;
    this.index = index;
    this.#ggml = ggml;
    this.#size = size;
    this.#context = describingContext(ggml, 10 + size.windows.length);
    const perToken = ({ id }: { id: number }, values: number) =>
      ggml.newTensor1d(this.#context, id, Math.max(1, values * size.tokens));
    const { steering, kept, ids, weights } = size.passed;
    const partial = Math.max(size.embeddingLength, steering);
    this.#hidden = perToken(F32, size.embeddingLength);
    this.#perLayer = perToken(F32, size.perLayerLength * size.blockCount);
    this.#partial = ggml.newTensor1d(this.#context, F32.id, partial * size.tokens + mostCheckValues);
    this.#kept = perToken(F32, kept);
    this.#ids = perToken(I32, ids);
    this.#guessed = perToken(I32, mostGuesses * ids);
    this.#weights = perToken(F32, weights);
    this.#positions = perToken(I32, size.channels);
    this.#cells = perToken(I64, 1);
    this.#masks = new Map(size.windows.map((window) => [window, perToken(F16, size.slotCells)]));
    if (size.temperature) this.#queryScales = perToken(F32, 1);
    const buffer = ggml.allocateTensors(this.#context, ggml.deviceBufferType(device));
    this.#buffer = required(buffer, "making room for inputs");
    const addressOf = (tensor: Tensor) => required(ggml.getData(tensor), "reading inputs");
    this.#partialAddress = addressOf(this.#partial);
    this.#partialValues = new FirstValues(viewFloats(this.#partialAddress, partial * size.tokens + mostCheckValues));
    this.#keptValues = viewFloats(addressOf(this.#kept), kept * size.tokens);
    this.#idValues = new FirstValues(viewIntegers(addressOf(this.#ids), ids * size.tokens));
    this.#guessedValues = new FirstValues(viewIntegers(addressOf(this.#guessed), mostGuesses * ids * size.tokens));
    this.#weightValues = new FirstValues(viewFloats(addressOf(this.#weights), weights * size.tokens));
  }

  /** (embedding length, columns): hidden states. */
  hidden(builder: GraphBuilder, columns: number): Tensor {
    return columnsOf(builder, this.#hidden, this.#size.embeddingLength, columns);
  }

  /** (values, columns): what the passes before have left to be added up, or to choose from. */
  partial(builder: GraphBuilder, values: number, columns: number): Tensor {
    return columnsOf(builder, this.#partial, values, columns);
  }

  /** The first values of `partial`, to be added up. */
  partialSums(count: number, exact: boolean): PartialSums {
    return { address: this.#partialAddress, values: this.partialValues(count), exact };
  }

  /** The first values of `partial`. */
  partialValues(count: number): Float32Array {
    return this.#partialValues.of(count);
  }

  /** (values, columns) of each tensor that a block keeps, which has `values` per token. */
  kept(builder: GraphBuilder, values: readonly number[], columns: number): Tensor[] {
    let skipped = 0;
    return values.map((count) => {
      const elements = builder.slice(this.#kept, skipped, count * columns, 4);
      skipped += count * this.#size.tokens;
      return builder.reshape(elements, count, columns);
    });
  }

  /** All of what experts start from, (embedding length, tokens), and of what they give, (embedding length, used * tokens). */
  experts(builder: GraphBuilder, { used }: Pick<ExpertsStep<RankBlock>, "used">): { input: Tensor; outputs: Tensor } {
    const { embeddingLength: length, tokens } = this.#size;
    const vectors = (first: number, count: number) =>
      builder.reshape(builder.slice(this.#kept, first * length, count * length, 4), length, count);
    return { input: vectors(0, tokens), outputs: vectors(this.#firstOutput(used), used * tokens) };
  }

  /** Zeros what one of `used` experts gives a token, for each pair that is listed; they are counted token by token. */
  clearOutputs({ used }: Pick<ExpertsStep<RankBlock>, "used">, pairs: Int32Array): void {
    const { embeddingLength: length } = this.#size;
    const first = this.#firstOutput(used);
    for (const pair of pairs) this.#keptValues.fill(0, (first + pair) * length, (first + pair + 1) * length);
  }

  /** What a choice hands over to the graph that follows it. */
  chosen(builder: GraphBuilder, { ids, weights }: ChosenCounts, columns: number): ChosenInputs {
    return {
      ids: columnsOf(builder, this.#ids, ids, columns),
      weights: columnsOf(builder, this.#weights, weights, columns),
    };
  }

  /** The same as the host sees it. */
  chosenValues({ ids, weights }: ChosenCounts, columns: number): ChosenValues {
    return { ids: this.#idValues.of(ids * columns), weights: this.#weightValues.of(weights * columns) };
  }

  /** (ids per token, columns): where a graph leaves what it guesses for the block of this index. */
  guessed(builder: GraphBuilder, index: number, ids: number, columns: number): Tensor {
    const count = ids * columns;
    return builder.reshape(builder.slice(this.#guessed, index * count, count, 4), ids, columns);
  }

  /** The guesses for this many blocks, as the host sees them. */
  guessedValues(blocks: number, ids: number, columns: number): Int32Array {
    return this.#guessedValues.of(blocks * ids * columns);
  }

  inputs(builder: GraphBuilder, { tokens, spans }: BatchShape): PassInputs {
    return {
      positions: (count) => this.#lastPositions(builder, tokens, count),
      cells: builder.first(this.#cells, tokens),
      queryScales: this.#queryScales ? builder.reshape(builder.first(this.#queryScales, tokens), 1, 1, tokens) : null,
      perLayer: (layer, count) => this.#lastOfLayer(builder, layer, tokens, count),
      masks: (window) => this.#masksOf(builder, spans, window),
    };
  }

  /**
   * @param embeddings - (embedding length, tokens), in the order of the pass's parts
   * @param perLayer - (values for each layer * layers, tokens)
   */
  fill({ runs, shape }: BatchLayout, embeddings: Float32Array, perLayer: Float32Array): void {
    const { slotCells, embeddingLength, perLayerLength, blockCount } = this.#size;
    const positions = runs.flatMap(({ tokens, position }) => Array.from({ length: tokens }, (_, i) => position + i));
    const slots = runs.flatMap(({ tokens, slot }) => Array<number>(tokens).fill(slot));
    this.#fillColumns(this.#hidden, embeddingLength, runs, embeddings);
    this.#fillColumns(this.#perLayer, perLayerLength * blockCount, runs, perLayer);
    this.#fillPositions(positions);
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

  /** Vectors that are kept before what experts give. */
  #firstOutput(used: number): number {
    const { embeddingLength, tokens, passed } = this.#size;
    return (passed.kept / embeddingLength - used) * tokens;
  }

  /** The last `count` of `tokens` numbers of each channel, one channel after the other. */
  #lastPositions(builder: GraphBuilder, tokens: number, count: number): Tensor {
    const { channels } = this.#size;
    const all = builder.first(this.#positions, channels * tokens);
    return channels === 1 ? builder.last(all, tokens, count) : builder.lastOfRows(all, channels, tokens, count);
  }

  /** Text is at the same place in time, height and width; the channel that may follow is of no use to it. */
  #fillPositions(positions: readonly number[]): void {
    const { channels } = this.#size;
    const values = new Int32Array(channels * positions.length);
    for (let i = 0; i < Math.min(channels, 3); i++) values.set(positions, i * positions.length);
    this.#set(this.#positions, values);
  }

  /** The embedding of the last `count` of `tokens` tokens for a layer. */
  #lastOfLayer(builder: GraphBuilder, layer: number, tokens: number, count: number): Tensor {
    const { perLayerLength: length, blockCount } = this.#size;
    const all = columnsOf(builder, this.#perLayer, length * blockCount, tokens);
    const last = builder.lastColumns(all, length * blockCount, tokens, count);
    return builder.partOfColumns(last, length * blockCount, count, layer * length, length);
  }

  /** Values of the tokens, `width` of each, as the columns of a pass lie. */
  #fillColumns(tensor: Tensor, width: number, runs: readonly Run[], values: Float32Array): void {
    let column = 0;
    for (const { source, tokens } of runs) {
      this.#set(tensor, values.subarray(source * width, (source + tokens) * width), 4 * width * column);
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

/** (values, columns): the first ones of a tensor. */
function columnsOf(builder: GraphBuilder, tensor: Tensor, values: number, columns: number): Tensor {
  return builder.reshape(builder.first(tensor, values * columns), values, columns);
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
