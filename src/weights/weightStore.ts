import { StelliumError } from "../errors.ts";
import type { Buffer, Context, Device, Ggml, Pointer, Tensor } from "../native/ggml.ts";
import { preferHugePages } from "../native/memory.ts";
import { rowBytes } from "../native/tensorTypes.ts";
import {
  allocationBytes,
  convertsInParts,
  describingContext,
  type Layout,
  Layouts,
  newTensor,
  rowGroup,
} from "./layout.ts";
import { type LoadTask, loadCounter, loadWeights, taskBytes } from "./loader.ts";
import { loadBeside } from "./loadHelper.ts";
import { sliceShape, type TensorSlice } from "./slice.ts";
import type { Weights } from "./weights.ts";
import { type BlockWindow, residentWindow } from "./window/window.ts";

/** A tensor, or a part of one, to be held in memory. */
export interface StoredTensor extends TensorSlice {
  readonly kind: "matrix" | "vector";
}

/** Where a tensor is to lie in memory. */
export interface TensorPlace {
  readonly layout: Layout;
  readonly buffer: Buffer;
  readonly address: Pointer;
  /** Room there, as `allocationBytes` counts it. */
  readonly bytes: number;
}

/** Where weights come from: says what has to be read to bring one into its place. */
export type WeightSource = (slice: TensorSlice, place: TensorPlace) => LoadTask[];

/** A model below this is read sooner than a second thread starts. */
const parallelBytes = 96 * 2 ** 20;
/** More only wait for the disk. Each has memory for what it reads, of which a cap leaves less. */
const mostLoaders = { free: 4, capped: 2 };

/** The weights of a model in memory, each in the layout that the device computes fastest from. */
export class WeightStore implements Weights {
  /** Bytes of all weights in their layouts. */
  readonly bytes: number;
  /** Number of tensors by name of layout. */
  readonly layouts: ReadonlyMap<string, number>;
  readonly pinnedBytes: number;
  readonly windowBytes = 0;
  readonly window: BlockWindow;
  readonly #ggml: Ggml;
  readonly #context: Context;
  readonly #buffers: Buffer[] = [];
  readonly #tensors = new Map<string, Tensor>();
  readonly #tasks: LoadTask[] = [];

  /** Makes room for tensors. Throws `MODEL_UNSUPPORTED` or `OUT_OF_MEMORY`. */
  constructor(ggml: Ggml, device: Device, source: WeightSource, stored: readonly StoredTensor[]) {
    this.#ggml = ggml;
    this.#context = describingContext(ggml, Math.max(1, stored.length));
    const layouts = new Layouts(ggml, device);
    const byLayout = new Map<Layout, TensorSlice[]>();
    for (const slice of stored) {
      const { name, tensor } = slice;
      const matrix = { name, type: tensor.type, shape: sliceShape(slice) };
      const layout = slice.kind === "matrix" ? layouts.forMatrix(matrix) : layouts.plain;
      byLayout.set(layout, [...(byLayout.get(layout) ?? []), slice]);
    }
    let bytes = 0;
    for (const [layout, slices] of byLayout) bytes += this.#place(source, layout, slices);
    this.bytes = bytes;
    this.pinnedBytes = bytes;
    this.window = residentWindow(bytes);
    this.layouts = new Map([...byLayout].map(([layout, tensors]) => [layout.name, tensors.length]));
  }

  /** The tensor of this GGUF name. */
  get(name: string): Tensor {
    const tensor = this.#tensors.get(name);
    if (tensor === undefined) throw new Error(`no weight ${name} is stored`);
    return tensor;
  }

  /**
   * Reads everything into place, on this thread and `threads - 1` others, or fewer. Progress is in `counters` (see `loadCounter`).
   * Throws `FILE_UNREADABLE`.
   */
  async load(threads: number, counters: Int32Array): Promise<void> {
    const most = this.#tasks[0]?.cached ? mostLoaders.free : mostLoaders.capped;
    const helpers = this.bytes < parallelBytes ? 0 : Math.min(threads, most) - 1;
    const helped = Promise.all(Array.from({ length: helpers }, () => loadBeside(this.#tasks, counters)));
    // What a helper met is told when this thread has ended its share.
    helped.catch(() => {});
    try {
      await loadWeights(this.#tasks, counters);
    } finally {
      Atomics.store(counters, loadCounter.stop, 1);
      await helped;
    }
  }

  [Symbol.dispose](): void {
    for (const buffer of this.#buffers) this.#ggml.freeBuffer(buffer);
    this.#ggml.free(this.#context);
  }

  #place(source: WeightSource, layout: Layout, slices: readonly TensorSlice[]): number {
    const ggml = this.#ggml;
    const placed = slices.map((slice) => {
      const shape = sliceShape(slice);
      const handle = newTensor(ggml, this.#context, { type: slice.tensor.type, shape }, shape[1] ?? 1);
      return { slice, handle, bytes: allocationBytes(ggml, layout.bufferType, handle) };
    });
    const total = placed.reduce((sum, { bytes }) => sum + bytes, 0);
    const buffer = this.#allocate(layout, total);
    let address = ggml.bufferBase(buffer);
    for (const { slice, handle, bytes } of placed) {
      ggml.placeTensor(buffer, handle, address);
      this.#tensors.set(slice.name, handle);
      this.#tasks.push(...source(slice, { layout, buffer, address, bytes }));
      address += BigInt(bytes);
    }
    return total;
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

/**
 * Takes weights from the GGUF files they are in, bringing them into their layouts on the way.
 *
 * @param cached - whether the system's cache is to keep what was read, for another start
 */
export function ggufWeights(files: readonly string[], cached = true): WeightSource {
  return (slice, place) => loadTasks(slice, files[slice.tensor.file]!, place).map((task) => ({ ...task, cached }));
}

/** Cuts the loading of a tensor into tasks of whole row groups. */
function loadTasks(slice: TensorSlice, path: string, place: TensorPlace): Omit<LoadTask, "cached">[] {
  const { tensor, rows, columns } = slice;
  const { layout } = place;
  const fileRow = rowBytes(tensor.type, tensor.shape[0]!);
  const row = rowBytes(tensor.type, columns.count);
  const some =
    row === fileRow ? {} : { columns: { rowBytes: fileRow, offset: rowBytes(tensor.type, columns.start), bytes: row } };
  const groups = Math.max(1, Math.floor(taskBytes / (fileRow * rowGroup)));
  const step = convertsInParts(layout, rows.count) ? groups * rowGroup : rows.count;
  // In a converted layout a row may take more room than in the file.
  const rowRoom = layout.plain ? row : Math.floor(place.bytes / rows.count);
  const tasks: Omit<LoadTask, "cached">[] = [];
  for (let first = 0; first < rows.count; first += step) {
    const count = Math.min(step, rows.count - first);
    const offset = tensor.offset + (rows.start + first) * fileRow;
    const address = place.address + BigInt(first * rowRoom);
    const shape = tensor.shape.length === 1 ? [columns.count] : [columns.count, count];
    const convert = layout.plain ? {} : { convert: { type: tensor.type, shape } };
    tasks.push({ path, offset, bytes: count * fileRow, address, buffer: place.buffer, ...some, ...convert });
  }
  return tasks;
}
