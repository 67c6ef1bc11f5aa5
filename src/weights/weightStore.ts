import { StelliumError } from "../errors.ts";
import type { Buffer, Context, Device, Ggml, Tensor } from "../native/ggml.ts";
import { preferHugePages } from "../native/memory.ts";
import { repointing } from "../native/tensorData.ts";
import {
  allocationBytes,
  describingContext,
  type LaidOut,
  type Layout,
  Layouts,
  layOutTensors,
  layoutCounts,
  newStack,
  newTensor,
} from "./layout.ts";
import { type LoadFiles, type LoadTask, loadCounter, loadWeights, taskBytes } from "./loader.ts";
import { loadBeside } from "./loadHelper.ts";
import type { ExpertPool } from "./pool/expertPool.ts";
import { type ModelTensor, ownTensors, ResidentPool, type StackedMatrix, stackedTensors } from "./pool/residentPool.ts";
import { matrixOf, slotUnit } from "./pool/slots.ts";
import { bandsOf, type RepackPlace } from "./repack.ts";
import { rowColumns, sliceBytes, type TensorSlice, type TensorStack, tensorPart } from "./slice.ts";
import type { Weights } from "./weights.ts";
import { type BlockWindow, residentWindow } from "./window/window.ts";

/** A smaller model is read before a second thread has started. */
const parallelBytes = 96 * 2 ** 20;
/** More loaders would only wait for the disk. Each needs memory for what it reads, and a cap leaves less of that. */
const mostLoaders = { free: 4, capped: 2 };

/** Experts of all blocks, in order: alike, or one by one. */
export interface StoredExperts {
  /** Each matrix of all experts of a block becomes one tensor. */
  readonly stacks?: readonly (readonly TensorStack[])[];
  /** Each part of each expert becomes one. */
  readonly units?: readonly (readonly TensorSlice[])[];
}

/**
 * Weights that all stay in memory, taken from the GGUF files they are in, each brought on the way into the layout that the
 * device computes fastest from.
 */
export class WeightStore implements Weights {
  /** Bytes of all weights in their layouts. */
  readonly bytes: number;
  /** Number of tensors by name of layout. */
  readonly layouts: ReadonlyMap<string, number>;
  readonly pinnedBytes: number;
  readonly windowBytes = 0;
  readonly window: BlockWindow;
  readonly pool: ExpertPool | undefined;
  readonly stacked: boolean;
  readonly #ggml: Ggml;
  readonly #files: LoadFiles;
  readonly #context: Context;
  readonly #buffers: Buffer[] = [];
  readonly #tensors = new Map<string, Tensor>();
  readonly #models = new Map<string, ModelTensor>();
  readonly #tasks: LoadTask[] = [];

  /** Makes room for tensors. Throws `MODEL_UNSUPPORTED` or `OUT_OF_MEMORY`. */
  constructor(
    ggml: Ggml,
    device: Device,
    files: LoadFiles,
    slices: readonly TensorSlice[],
    { stacks = [], units = [] }: StoredExperts = {},
  ) {
    const all = [...slices, ...units.flat()];
    this.#ggml = ggml;
    this.#files = files;
    this.#context = describingContext(ggml, Math.max(1, all.length + 2 * stacks.flat().length));
    const layouts = new Layouts(ggml, device);
    const { tensors } = layOutTensors(ggml, layouts, all);
    const counts = layoutCounts(tensors);
    for (const name of counts.keys()) {
      const neighbors = tensors.filter(({ layout }) => layout === name);
      this.#place(layouts.named(name)!, neighbors);
    }
    const placed = stacks.map((matrices) => ({
      count: matrices[0]!.experts.length,
      matrices: matrices.map((stack) => this.#placeStack(layouts.forPart(stack.experts[0]!), stack)),
    }));
    const ofStacks = stacks
      .flat()
      .flatMap(({ experts }) => experts.map((expert) => ({ layout: layouts.forPart(expert).name })));
    this.layouts = layoutCounts([...tensors, ...ofStacks]);
    this.bytes = totalBytes(tensors) + stackBytes(stacks.flat());
    this.pinnedBytes = this.bytes;
    this.window = residentWindow(() => this.bytes);
    this.stacked = stacks.length > 0;
    if (this.stacked) this.pool = new ResidentPool(stackedTensors(placed));
    else if (units.length > 0) this.pool = new ResidentPool(ownTensors(ggml, units, (name) => this.get(name)));
  }

  /** The tensor of this GGUF name. */
  get(name: string): Tensor {
    const tensor = this.#tensors.get(name);
    if (tensor === undefined) throw new Error(`no weight ${name} is stored`);
    return tensor;
  }

  /**
   * Reads everything into place, on this thread and at most `threads - 1` others. Progress is in `counters` (see `loadCounter`).
   * Throws `FILE_UNREADABLE`.
   */
  async load(threads: number, counters: Int32Array): Promise<void> {
    const most = this.#files.cached ? mostLoaders.free : mostLoaders.capped;
    const helpers = this.bytes < parallelBytes ? 0 : Math.min(threads, most) - 1;
    const helped = Promise.all(Array.from({ length: helpers }, () => loadBeside(this.#files, this.#tasks, counters)));
    // A helper's error is thrown after this thread has finished its own share.
    helped.catch(() => {});
    try {
      await loadWeights(this.#files, this.#tasks, counters);
    } finally {
      Atomics.store(counters, loadCounter.stop, 1);
      await helped;
    }
  }

  [Symbol.dispose](): void {
    for (const buffer of this.#buffers) this.#ggml.freeBuffer(buffer);
    this.#ggml.free(this.#context);
  }

  /** Places neighbors of one layout in a buffer. */
  #place(layout: Layout, slices: readonly LaidOut<TensorSlice>[]): void {
    const ggml = this.#ggml;
    const buffer = this.#allocate(layout, totalBytes(slices));
    const start = ggml.bufferBase(buffer) - BigInt(slices[0]!.offset);
    for (const slice of slices) {
      const tensor = newTensor(ggml, this.#context, slice, slice.rows.count);
      const address = start + BigInt(slice.offset);
      ggml.placeTensor(buffer, tensor, address);
      this.#tensors.set(slice.name, tensor);
      this.#tasks.push(...loadTasks(slice, layout, { buffer, address }));
    }
  }

  /** Places a tensor of all experts in a buffer of its own: it is large. */
  #placeStack(layout: Layout, { name, experts }: TensorStack): StackedMatrix {
    const ggml = this.#ggml;
    const [first] = experts;
    const tensor = newStack(ggml, this.#context, first!, experts.length);
    const buffer = this.#allocate(layout, allocationBytes(ggml, layout.bufferType, tensor));
    const start = ggml.bufferBase(buffer);
    ggml.placeTensor(buffer, tensor, start);
    this.#tensors.set(name, tensor);
    const bytes = sliceBytes(first!);
    for (const [i, expert] of experts.entries()) {
      const placed = { ...expert, layout: layout.name, offset: i * bytes, bytes };
      this.#tasks.push(...loadTasks(placed, layout, { buffer, address: start + BigInt(placed.offset) }));
    }
    const role = matrixOf(first!.name);
    return { role, model: this.#modelOf(role, first!, { buffer, address: start }), address: start, distance: bytes };
  }

  /** A tensor of one expert's matrix, for all of the same shape. */
  #modelOf(role: string, part: TensorSlice, { buffer, address }: RepackPlace): ModelTensor {
    const ggml = this.#ggml;
    const key = `${role} ${slotUnit(0, [part]).shape}`;
    const known = this.#models.get(key);
    if (known !== undefined) return known;
    const tensor = newTensor(ggml, this.#context, part, part.rows.count);
    ggml.placeTensor(buffer, tensor, address);
    const model = { tensor, repoint: repointing(ggml, tensor)(tensor) };
    this.#models.set(key, model);
    return model;
  }

  #allocate(layout: Layout, bytes: number): Buffer {
    const buffer = this.#ggml.allocateBuffer(layout.bufferType, bytes);
    if (buffer === null)
      throw new StelliumError("OUT_OF_MEMORY", { what: "the model", needed: `${bytes} bytes`, available: "less" });
    this.#ggml.setBufferUsage(buffer, 1);
    preferHugePages(this.#ggml.bufferBase(buffer), bytes);
    this.#buffers.push(buffer);
    return buffer;
  }
}

/** Layouts of experts take no more than the plain one. */
function stackBytes(stacks: readonly TensorStack[]): number {
  return stacks.reduce((sum, { experts }) => sum + experts.length * sliceBytes(experts[0]!), 0);
}

function totalBytes(tensors: readonly { readonly bytes: number }[]): number {
  return tensors.reduce((sum, { bytes }) => sum + bytes, 0);
}

/** Cuts the loading of a tensor, which begins at `address`, into tasks. */
function loadTasks(slice: LaidOut<TensorSlice>, layout: Layout, { buffer, address }: RepackPlace): LoadTask[] {
  const { tensor, rows } = slice;
  const columns = rowColumns(slice);
  const { rowBytes } = columns;
  const part = tensorPart(slice);
  return bandsOf(slice, layout, rowBytes, taskBytes).map((band) => ({
    file: tensor.file,
    offset: tensor.offset + (rows.start + band.first) * rowBytes,
    bytes: band.rows * rowBytes,
    buffer,
    address: address + BigInt(band.offset),
    ...(columns.bytes < rowBytes && { columns }),
    ...(!layout.plain && { repack: { part, rows: band.rows } }),
  }));
}
