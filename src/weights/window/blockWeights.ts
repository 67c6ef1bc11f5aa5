import { Worker } from "node:worker_threads";
import type { Buffer, Context, Device, Ggml, Pointer, Tensor } from "../../native/ggml.ts";
import { allocatePages, type NativeMemory } from "../../native/memory.ts";
import type { Repoint } from "../../native/tensorData.ts";
import { readerThreads } from "../../trace/spans.ts";
import { describingContext, layoutCounts } from "../layout.ts";
import { loadCounter } from "../loader.ts";
import type { StoredTensor } from "../slice.ts";
import type { Weights } from "../weights.ts";
import type { BlockMap } from "./blockMap.ts";
import type { ReaderTrace } from "./pieceReader.ts";
import type { ReaderSetup } from "./reader.ts";
import { TensorModels } from "./tensorModels.ts";
import { awaitReaders } from "./waiting.ts";
import { type BlockWindow, RingWindow, residentWindow } from "./window.ts";
import { announce, readerFailure, type WindowMemory, windowCell, windowMemory } from "./windowMemory.ts";

/** Which blocks stay in memory, and how much room the others have. Plain data. */
export interface WindowPlacement {
  /** By block; those without an entry stay in memory. */
  readonly pinned: readonly boolean[];
  readonly windowBytes: number;
  /** Whether to read through the system's cache, which costs memory and makes another start faster. */
  readonly cached: boolean;
}

/** A reader has hardly anything of its own. */
const readerLimits = { maxOldGenerationSizeMb: 24, maxYoungGenerationSizeMb: 2 };
const waitInterval = 50;
/** How long readers may take to end, in milliseconds. */
const endPatience = 10_000;

/**
 * Weights that lie on the disk in the layouts they are computed from. Pinned blocks are read once, the others pass
 * through a ring, again for every step. Tensors are told where their data lies before they are computed from.
 */
export class BlockWeights implements Weights {
  readonly bytes: number;
  readonly pinnedBytes: number;
  readonly windowBytes: number;
  readonly layouts: ReadonlyMap<string, number>;
  readonly window: BlockWindow;
  readonly #ggml: Ggml;
  readonly #context: Context;
  readonly #models: readonly Buffer[];
  readonly #tensors = new Map<string, Tensor>();
  readonly #map: BlockMap;
  /** By block: tells each of its tensors where it lies. */
  readonly #repoints: readonly (readonly Repoint[])[];
  readonly #pinnedMemory: NativeMemory | undefined;
  readonly #ringMemory: NativeMemory | undefined;
  readonly #memory: WindowMemory;
  readonly #setup: ReaderSetup;
  readonly #traces: readonly ReaderTrace[];

  /**
   * Makes room. Throws `SLICE_INVALID` if the device has another layout for a tensor, and `OUT_OF_MEMORY`.
   *
   * @param stopped - whether waiting for a block is to end
   * @param traces - where each reader records what it does; nowhere if absent
   */
  constructor(
    ggml: Ggml,
    device: Device,
    map: BlockMap,
    placement: WindowPlacement,
    stopped: () => boolean,
    traces: readonly ReaderTrace[] = [],
  ) {
    const tensors = map.blocks.flatMap((block) => block.tensors);
    const pinned = map.blocks.flatMap(({ room }, block) =>
      room > 0 && placement.pinned[block] !== false ? [block] : [],
    );
    const streamed = map.blocks.flatMap(({ room }, block) =>
      room > 0 && placement.pinned[block] === false ? [block] : [],
    );
    const rooms = (blocks: readonly number[]) => blocks.map((block) => map.blocks[block]!.room);
    const read = (blocks: readonly number[]) => blocks.map((block) => sum(map.blocks[block]!.extents.map(bytesOf)));
    this.#ggml = ggml;
    this.#traces = traces;
    this.#context = describingContext(ggml, Math.max(1, tensors.length));
    this.#memory = windowMemory(map.blocks.length);
    this.bytes = sum(tensors.map(({ bytes }) => bytes));
    this.layouts = layoutCounts(tensors);
    this.pinnedBytes = sum(rooms(pinned));
    this.windowBytes = streamed.length > 0 ? placement.windowBytes : 0;
    this.#pinnedMemory = this.pinnedBytes > 0 ? allocatePages(this.pinnedBytes) : undefined;
    this.#ringMemory = this.windowBytes > 0 ? allocatePages(this.windowBytes) : undefined;
    const describing = new TensorModels(ggml, device, this.#context, map);
    this.#models = describing.buffers;
    this.#map = map;
    this.#repoints = map.blocks.map((block) => block.tensors.map((tensor) => this.#describe(describing, tensor)));
    this.#setup = {
      map,
      pinned: this.#placePinned(pinned, rooms(pinned)),
      ring: this.#ringMemory && { address: this.#ringMemory.address, bytes: this.windowBytes, blocks: streamed },
      cached: placement.cached,
      memory: this.#memory,
    };
    this.window = this.#ringMemory
      ? new RingWindow({
          blocks: streamed,
          rooms: rooms(streamed),
          bytes: read(streamed),
          pinnedBytes: sum(read(pinned)),
          ringBytes: this.windowBytes,
          memory: this.#memory,
          path: map.files[0]!,
          place: (block, offset) => this.#place(block, this.#ringMemory!.address + BigInt(offset)),
          stopped,
        })
      : residentWindow(this.pinnedBytes);
  }

  get(name: string): Tensor {
    const tensor = this.#tensors.get(name);
    if (tensor === undefined) throw new Error(`no weight ${name} is stored`);
    return tensor;
  }

  async load(_: number, counters: Int32Array): Promise<void> {
    const { cells, ready, bytes } = this.#memory;
    Atomics.store(cells, windowCell.readers, readerThreads.length);
    for (const reader of readerThreads.keys()) startReader({ ...this.#setup, trace: this.#traces[reader] });
    const progress = () => {
      Atomics.store(counters, loadCounter.mebibytes, Number(Atomics.load(bytes, 0) >> 20n));
      const failure = readerFailure(this.#memory);
      if (failure !== undefined) throw failure;
      // From here on a file may be deleted: all readers have it open.
      const opened = Atomics.load(cells, windowCell.opened) === readerThreads.length;
      return opened && this.#setup.pinned.every(({ block }) => Atomics.load(ready, block) > 0);
    };
    const stopped = () => Atomics.load(counters, loadCounter.stop) !== 0;
    awaitReaders({ memory: this.#memory, reached: progress, stopped, path: this.#setup.map.files[0]! });
  }

  /** Waits for the readers, which finish the piece they are at. Memory that one may still write to is not freed. */
  [Symbol.dispose](): void {
    const { cells } = this.#memory;
    Atomics.store(cells, windowCell.stop, 1);
    announce(this.#memory, windowCell.wake);
    const ended = waitUntil(() => Atomics.load(cells, windowCell.readers) === 0, cells);
    for (const model of this.#models) this.#ggml.freeBuffer(model);
    this.#ggml.free(this.#context);
    if (!ended) return;
    this.#pinnedMemory?.[Symbol.dispose]();
    this.#ringMemory?.[Symbol.dispose]();
  }

  #describe(models: TensorModels, tensor: StoredTensor): Repoint {
    const { handle, repoint } = models.describe(tensor);
    this.#tensors.set(tensor.name, handle);
    return repoint;
  }

  #placePinned(blocks: readonly number[], rooms: readonly number[]): { block: number; address: Pointer }[] {
    let address = this.#pinnedMemory?.address ?? 0n;
    return blocks.map((block, i) => {
      const placed = { block, address };
      this.#place(block, address);
      address += BigInt(rooms[i]!);
      return placed;
    });
  }

  #place(block: number, address: Pointer): void {
    const { tensors } = this.#map.blocks[block]!;
    const repoints = this.#repoints[block]!;
    for (let i = 0; i < repoints.length; i++) repoints[i]!(address + BigInt(tensors[i]!.offset));
  }
}

/** Waits for readers to end. Returns false where one does not, because the disk it reads from does not answer. */
function waitUntil(reached: () => boolean, cells: Int32Array): boolean {
  for (const started = performance.now(); !reached(); ) {
    if (performance.now() - started > endPatience) return false;
    Atomics.wait(cells, windowCell.news, Atomics.load(cells, windowCell.news), waitInterval);
  }
  return true;
}

function startReader(setup: ReaderSetup): Worker {
  const script = new URL("./readerThread.js", import.meta.url);
  return new Worker(script, { workerData: setup, resourceLimits: readerLimits });
}

function bytesOf({ bytes }: { readonly bytes: number }): number {
  return bytes;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, value) => total + value, 0);
}
