import { Worker } from "node:worker_threads";
import type { Buffer, Context, Device, Ggml, Pointer, Tensor } from "../../native/ggml.ts";
import { allocatePages, type NativeMemory } from "../../native/memory.ts";
import type { Repoint } from "../../native/tensorData.ts";
import { type ThreadName, threadScript } from "../../system/threadScript.ts";
import { readerThreads } from "../../trace/spans.ts";
import { describingContext, layoutCounts } from "../layout.ts";
import { loadCounter } from "../loader.ts";
import type { ExpertPool } from "../pool/expertPool.ts";
import { poolMemory, wakePool } from "../pool/poolMemory.ts";
import { leastPieces, type PoolReaderSetup } from "../pool/poolReader.ts";
import { type ResidentParts, ResidentPool } from "../pool/residentPool.ts";
import { type PoolParts, SlotPool } from "../pool/slotPool.ts";
import { matrixOf, planSlots, type SlotPlan, slotUnit } from "../pool/slots.ts";
import type { StoredTensor, TensorStack } from "../slice.ts";
import type { Weights } from "../weights.ts";
import { type BlockMap, readMap } from "./blockMap.ts";
import { piecesOf, type ReaderTrace } from "./pieceReader.ts";
import type { ReaderSetup } from "./reader.ts";
import { readerFailure } from "./readFailure.ts";
import { TensorModels } from "./tensorModels.ts";
import { awaitReaders } from "./waiting.ts";
import { type BlockWindow, RingWindow, residentWindow } from "./window.ts";
import { announce, type WindowMemory, windowCell, windowMemory } from "./windowMemory.ts";

/** Which blocks stay in memory, and how much room the others have. Plain data. */
export interface WindowPlacement {
  /** By block; those without an entry stay in memory. Experts have no say in it. */
  readonly pinned: readonly boolean[];
  readonly windowBytes: number;
  /** Room for slots of experts; for all of them if absent. */
  readonly poolBytes?: number | undefined;
  /** Whether to read through the system's cache, which costs memory and makes another start faster. */
  readonly cached: boolean;
}

/** Optional parts of `BlockWeights`. */
export interface BlockWeightsOptions {
  /** Where each reader records what it does; nowhere if absent. */
  readonly traces?: readonly ReaderTrace[];
  /** The matrices of all experts, in order of blocks; absent if experts are not alike, so that there has to be a pool. */
  readonly stacks?: readonly (readonly TensorStack[])[];
  /** Experts of a block that one token needs at once. */
  readonly leastSlots?: number;
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
  readonly pool: ExpertPool | undefined;
  readonly stacked: boolean;
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
  #poolSetup: PoolReaderSetup | undefined;
  readonly #traces: readonly ReaderTrace[];

  /**
   * Makes room. Throws `SLICE_INVALID` if the device has another layout for a tensor, and `OUT_OF_MEMORY`.
   *
   * @param stopped - whether waiting for a block is to end
   */
  constructor(
    ggml: Ggml,
    device: Device,
    map: BlockMap,
    placement: WindowPlacement,
    stopped: () => boolean,
    { traces = [], stacks = [], leastSlots = 1 }: BlockWeightsOptions = {},
  ) {
    const tensors = map.blocks.flatMap((block) => block.tensors);
    const units = map.blocks.slice(map.experts).map(({ room, tensors: parts }) => slotUnit(room, parts));
    const slotPlan = planSlots(units, placement.poolBytes, leastSlots);
    const { resident } = slotPlan;
    const dense = [...map.blocks.slice(0, map.experts).entries()].filter(([, { room }]) => room > 0);
    const pinned = dense.flatMap(([block]) => (placement.pinned[block] !== false ? [block] : []));
    const streamed = dense.flatMap(([block]) => (placement.pinned[block] === false ? [block] : []));
    const rooms = (blocks: readonly number[]) => blocks.map((block) => map.blocks[block]!.room);
    const readBytes = (blocks: readonly number[]) =>
      blocks.map((block) => sum(map.blocks[block]!.extents.map(bytesOf)));
    this.#ggml = ggml;
    this.#traces = traces;
    this.#context = describingContext(
      ggml,
      Math.max(1, tensors.length + 2 * stacks.flat().length + 3 * classTensorCount(map, slotPlan)),
    );
    this.#memory = windowMemory(map.blocks.length);
    this.bytes = sum(tensors.map(({ bytes }) => bytes));
    this.layouts = layoutCounts(tensors);
    this.pinnedBytes = sum(rooms(pinned)) + slotPlan.bytes;
    this.windowBytes = streamed.length > 0 ? placement.windowBytes : 0;
    this.#pinnedMemory = this.pinnedBytes > 0 ? allocatePages(this.pinnedBytes) : undefined;
    this.#ringMemory = this.windowBytes > 0 ? allocatePages(this.windowBytes) : undefined;
    const describing = new TensorModels(ggml, device, this.#context, map);
    this.#models = describing.buffers;
    this.#map = map;
    this.#repoints = map.blocks.map((block, index) =>
      index < map.experts ? block.tensors.map((tensor) => this.#describe(describing, tensor)) : [],
    );
    const slotAddress = (this.#pinnedMemory?.address ?? 0n) + BigInt(sum(rooms(pinned)));
    const experts = resident ? slotsOfExperts(map, slotPlan, slotAddress) : [];
    const read = readMap(map);
    this.#setup = {
      map: read,
      pinned: [...this.#placePinned(pinned, rooms(pinned)), ...experts],
      ring: this.#ringMemory && { address: this.#ringMemory.address, bytes: this.windowBytes, blocks: streamed },
      cached: placement.cached,
      memory: this.#memory,
    };
    const pieces = this.#expertPieces();
    if (units.length > 0 && !resident) this.#poolSetup = this.#openPool(slotPlan, slotAddress, pieces);
    this.stacked = resident && stacks.length > 0;
    if (this.stacked) this.#stack(describing, stacks.flat(), experts);
    if (units.length > 0) {
      const tensors = this.#classTensors(describing, slotPlan);
      const setup = this.#poolSetup;
      this.pool =
        setup === undefined
          ? new ResidentPool(
              residentParts(
                slotPlan,
                experts.map(({ address }) => address),
                tensors,
              ),
            )
          : new SlotPool({
              classes: slotPlan.classes,
              address: slotAddress,
              memory: setup.pool,
              readers: this.#memory,
              pieces,
              ...tensors,
              stack: this.#slotStacks(describing, slotPlan, slotAddress),
              path: map.files[0]!,
              stopped,
            });
    }
    this.window = this.#ringMemory
      ? new RingWindow({
          blocks: streamed,
          rooms: rooms(streamed),
          bytes: readBytes(streamed),
          pinnedBytes: sum(readBytes(pinned)),
          ringBytes: this.windowBytes,
          memory: this.#memory,
          path: map.files[0]!,
          place: (block, offset) => this.#place(block, this.#ringMemory!.address + BigInt(offset)),
          stopped,
        })
      : residentWindow(() => Number(Atomics.load(this.#memory.bytes, 0)));
  }

  get(name: string): Tensor {
    const tensor = this.#tensors.get(name);
    if (tensor === undefined) throw new Error(`no weight ${name} is stored`);
    return tensor;
  }

  async load(_: number, counters: Int32Array): Promise<void> {
    const { cells, ready, bytes } = this.#memory;
    const pool = this.#poolSetup;
    const threads = readerThreads.length * (pool === undefined ? 1 : 2);
    Atomics.store(cells, windowCell.readers, readerThreads.length);
    Atomics.store(cells, windowCell.expertReaders, threads - readerThreads.length);
    for (const reader of readerThreads.keys()) {
      const trace = this.#traces[reader];
      startThread("reader", { ...this.#setup, trace });
      // Only one thread writes to each trace, so those of the pool record nothing.
      if (pool !== undefined) startThread("poolReader", pool);
    }
    const progress = () => {
      Atomics.store(counters, loadCounter.mebibytes, Number(Atomics.load(bytes, 0) >> 20n));
      const failure = readerFailure(this.#memory.failure);
      if (failure !== undefined) throw failure;
      // From here on a file may be deleted: all readers have it open.
      const opened = Atomics.load(cells, windowCell.opened) === threads;
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
    if (this.#poolSetup !== undefined) wakePool(this.#poolSetup.pool);
    const ended = waitUntil(
      () => Atomics.load(cells, windowCell.readers) + Atomics.load(cells, windowCell.expertReaders) === 0,
      cells,
    );
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

  #openPool(plan: SlotPlan, address: Pointer, pieces: Int32Array): PoolReaderSetup {
    const slots = plan.classes.flatMap(({ slots, slotBytes, offset }) =>
      Array.from({ length: slots }, (_, slot) => address + BigInt(offset + slot * slotBytes)),
    );
    const { map, cached } = this.#setup;
    const mostPieces = pieces.reduce((most, count) => Math.max(most, count), 1);
    return { map, slots, cached, memory: this.#memory, pool: poolMemory(slots.length, mostPieces) };
  }

  /** By expert: the pieces that it is read in. */
  #expertPieces(): Int32Array {
    const { blocks, experts } = this.#map;
    return Int32Array.from(blocks.slice(experts), ({ extents }) => piecesOf(extents, leastPieces).length);
  }

  /** For each matrix of each class, one tensor of all slots, if it lies at the same place in all of them. */
  #slotStacks(models: TensorModels, { classes }: SlotPlan, address: Pointer): PoolParts["stack"] {
    const { blocks, experts } = this.#map;
    const byUnit: ReadonlyMap<string, Tensor>[] = [];
    for (const { units, slots, slotBytes, offset } of classes) {
      const placesOf = (unit: number) => blocks[experts + unit]!.tensors.map((tensor) => tensor.offset);
      const places = placesOf(units[0]!);
      if (!units.every((unit) => placesOf(unit).every((place, i) => place === places[i]))) continue;
      const stacks = blocks[experts + units[0]!]!.tensors.map((tensor): [string, Tensor] => {
        const { handle, repoint } = models.stack(tensor, slots, slotBytes);
        repoint(address + BigInt(offset + tensor.offset));
        return [matrixOf(tensor.name), handle];
      });
      const stacked = new Map(stacks);
      for (const unit of units) byUnit[unit] = stacked;
    }
    return (unit, role) => byUnit[unit]?.get(role);
  }

  /** Tensors of each class, which are told where the unit lies that is computed from. */
  #classTensors(models: TensorModels, { classes }: SlotPlan): Pick<PoolParts, "place" | "tensor"> {
    const { blocks, experts } = this.#map;
    const byUnit: { tensors: ReadonlyMap<string, Tensor>; places: readonly [Repoint, bigint][] }[] = [];
    for (const { units } of classes) {
      const parts = blocks[experts + units[0]!]!.tensors;
      const described = new Map(parts.map((tensor) => [matrixOf(tensor.name), models.describe(tensor)]));
      const tensors = new Map([...described].map(([role, { handle }]) => [role, handle]));
      for (const unit of units) {
        const own = blocks[experts + unit]!.tensors;
        const places = own.map(({ name, offset }): [Repoint, bigint] => [
          described.get(matrixOf(name))!.repoint,
          BigInt(offset),
        ]);
        byUnit[unit] = { tensors, places };
      }
    }
    return {
      tensor: (unit, role) => byUnit[unit]!.tensors.get(role)!,
      place(unit, address) {
        for (const [repoint, offset] of byUnit[unit]!.places) repoint(address + offset);
      },
    };
  }

  /** One tensor for each matrix of all experts of a block, whose slots follow on each other. */
  #stack(
    models: TensorModels,
    stacks: readonly TensorStack[],
    placed: readonly { readonly block: number; readonly address: Pointer }[],
  ): void {
    const addresses = new Map(placed.map(({ block, address }) => [block, address]));
    let unit = this.#map.experts;
    for (let i = 0; i < stacks.length; ) {
      const { tensors } = this.#map.blocks[unit]!;
      const [first, second] = [addresses.get(unit)!, addresses.get(unit + 1)!];
      const { length } = stacks[i]!.experts;
      for (const tensor of this.#inOrder(tensors, stacks.slice(i, i + tensors.length))) {
        const { handle, repoint } = models.stack(tensor, length, Number(second - first));
        repoint(first + BigInt(tensor.offset));
        this.#tensors.set(tensor.stack, handle);
      }
      i += tensors.length;
      unit += length;
    }
  }

  /** The tensors of an expert, each with the name of the stack that it belongs to. */
  #inOrder(tensors: readonly StoredTensor[], stacks: readonly TensorStack[]) {
    return stacks.map(({ name, experts: [first] }) => {
      const tensor = tensors.find((candidate) => candidate.name === first!.name);
      if (tensor === undefined) throw new Error(`no expert has ${first!.name}`);
      return { ...tensor, stack: name };
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

function startThread(name: ThreadName, workerData: ReaderSetup | PoolReaderSetup): Worker {
  return new Worker(threadScript(name), { workerData, resourceLimits: readerLimits });
}

/** Where each expert lies if all have a slot. */
function slotsOfExperts({ experts }: BlockMap, { classes }: SlotPlan, address: Pointer) {
  return classes.flatMap(({ units, slotBytes, offset }) =>
    units.map((unit, slot) => ({ block: experts + unit, address: address + BigInt(offset + slot * slotBytes) })),
  );
}

/** @param addresses - of units, in order of the classes */
function residentParts(
  { classes }: SlotPlan,
  addresses: readonly Pointer[],
  { place, tensor }: Pick<PoolParts, "place" | "tensor">,
): ResidentParts {
  const units = classes.flatMap(({ units }, index) => units.map((unit) => ({ unit, index })));
  const byUnit: { index: number; address: Pointer }[] = [];
  for (const [i, { unit, index }] of units.entries()) byUnit[unit] = { index, address: addresses[i]! };
  return {
    classes: byUnit.map(({ index }) => index),
    place: (unit) => place(unit, byUnit[unit]!.address),
    tensor,
  };
}

/** Tensors of one unit of each class. */
function classTensorCount({ blocks, experts }: BlockMap, { classes }: SlotPlan): number {
  return sum(classes.map(({ units }) => blocks[experts + units[0]!]!.tensors.length));
}

function bytesOf({ bytes }: { readonly bytes: number }): number {
  return bytes;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, value) => total + value, 0);
}
