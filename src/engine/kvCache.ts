import { StelliumError } from "../errors.ts";
import type { Block } from "../model/blocks/block.ts";
import { stateOf } from "../model/blocks/definitions.ts";
import {
  type CellState,
  type CellTensors,
  cellBytes,
  headBytes,
  type KvType,
  keysPerCell,
  kvTypes,
  paddedCells,
} from "../model/cells.ts";
import type { RankShare } from "../model/split.ts";
import type { Buffer, Context, Device, Ggml, Pointer, Tensor } from "../native/ggml.ts";
import { tensorTypes } from "../native/tensorTypes.ts";
import { describingContext } from "../weights/layout.ts";

/** How large a KV cache is. */
export interface KvCacheSize {
  /** Tokens that a sequence may have. */
  readonly context: number;
  /** Sequences it has room for; 1 if absent. */
  readonly slots?: number | undefined;
}

/** The blocks whose state a cache holds, and the share of it. */
export interface KvCacheOwner {
  readonly blocks: readonly Block[];
  readonly share: RankShare;
}

/** A tensor of the cache, and the bytes of one cell in it. */
interface CellTensor {
  readonly tensor: Tensor;
  readonly cellBytes: number;
}

/**
 * Keys and values of every block that keeps them. A cell holds one token's; the cells of a slot, which are one
 * sequence's, follow on each other. Memory of cells not used yet is not touched.
 */
export class KvCache implements Disposable {
  /** Cells of each slot. */
  readonly slotCells: number;
  readonly #ggml: Ggml;
  readonly #context: Context;
  /** Null if the rank has no heads. */
  readonly #buffer: Buffer | null;
  readonly #cellBytes: number;
  /** Keys of all blocks, then values of all blocks that have them besides. */
  readonly #tensors: readonly CellTensor[];
  readonly #byLayer = new Map<number, CellTensors>();
  /** How many of the first cells hold numbers, by slot. */
  readonly #zeroed: number[];

  /** Makes room for all slots. Throws `OUT_OF_MEMORY`, `MODEL_UNSUPPORTED`. */
  constructor(ggml: Ggml, device: Device, owner: KvCacheOwner, type: KvType, { context, slots = 1 }: KvCacheSize) {
    const { share } = owner;
    const keeping = owner.blocks.flatMap((block) => {
      const state = stateOf(block);
      return state === undefined || keysPerCell(state, share) === 0 ? [] : [{ layer: block.layer, state }];
    });
    this.#ggml = ggml;
    this.#cellBytes = cellBytes(
      keeping.map(({ state }) => state),
      share,
      type,
    );
    this.slotCells = paddedCells(context);
    this.#zeroed = Array<number>(slots).fill(0);
    this.#context = describingContext(ggml, Math.max(1, 2 * keeping.length));
    const tensor = (count: number, length: number): CellTensor => {
      const { id } = tensorTypes[kvTypes[type]];
      const cells = ggml.newTensor2d(this.#context, id, count * length, this.slotCells * slots);
      return { tensor: cells, cellBytes: count * headBytes(length, type) };
    };
    const keys = keeping.map(({ state }) => tensor(keysPerCell(state, share), state.keyLength));
    const values = keeping.map(({ state }) =>
      state.latent ? undefined : tensor(keysPerCell(state, share), state.valueLength),
    );
    this.#tensors = [...keys, ...values.filter((value) => value !== undefined)];
    for (const [i, { layer, state }] of keeping.entries()) {
      this.#byLayer.set(layer, this.#view(state, keys[i]!.tensor, values[i]?.tensor, type));
    }
    this.#buffer = keeping.length > 0 ? ggml.allocateTensors(this.#context, ggml.deviceBufferType(device)) : null;
    if (this.#buffer === null && keeping.length > 0) throw outOfMemory(this.bytesOf(this.slotCells * slots));
  }

  /** Keys and values of a layer. */
  of({ layer }: Pick<Block, "layer">): CellTensors {
    return this.#byLayer.get(layer)!;
  }

  /** Bytes of the keys and values of `cells` cells, over all layers. */
  bytesOf(cells: number): number {
    return cells * this.#cellBytes;
  }

  /**
   * Attention multiplies masked cells by zero, and zero times what memory happens to hold may be no number.
   * So a slot's cells are zeroed before they are first looked at.
   */
  zeroUpTo(slot: number, cells: number): void {
    const zeroed = this.#zeroed[slot]!;
    if (cells <= zeroed) return;
    for (const { tensor, cellBytes } of this.#tensors) {
      const from = (slot * this.slotCells + zeroed) * cellBytes;
      this.#ggml.fillTensor(tensor, 0, from, (cells - zeroed) * cellBytes);
    }
    this.#zeroed[slot] = cells;
  }

  /** Copies the first cells of a slot to another. */
  copy(from: number, to: number, cells: number): void {
    if (from === to) return;
    const room = new Uint8Array(cells * Math.max(0, ...this.#tensors.map(({ cellBytes }) => cellBytes)));
    for (const { tensor, cellBytes } of this.#tensors) {
      const [bytes, slotBytes] = [cells * cellBytes, this.slotCells * cellBytes];
      this.#ggml.getTensor(tensor, room, from * slotBytes, bytes);
      this.#ggml.setTensor(tensor, room, to * slotBytes, bytes);
    }
    this.#filled(to, cells);
  }

  /** Copies the first cells of a slot to memory, one tensor after the other. */
  read(slot: number, cells: number, target: Pointer): void {
    let at = target;
    for (const { tensor, cellBytes } of this.#tensors) {
      this.#ggml.getTensor(tensor, at, slot * this.slotCells * cellBytes, cells * cellBytes);
      at += BigInt(cells * cellBytes);
    }
  }

  /** Fills the first cells of a slot from what was read of `stored` cells, at least as many. */
  write(slot: number, cells: number, source: Pointer, stored: number): void {
    let at = source;
    for (const { tensor, cellBytes } of this.#tensors) {
      this.#ggml.setTensor(tensor, at, slot * this.slotCells * cellBytes, cells * cellBytes);
      at += BigInt(stored * cellBytes);
    }
    this.#filled(slot, cells);
  }

  [Symbol.dispose](): void {
    if (this.#buffer !== null) this.#ggml.freeBuffer(this.#buffer);
    this.#ggml.free(this.#context);
  }

  /** @param values - undefined if they are part of the keys */
  #view({ keyLength, valueLength }: CellState, keys: Tensor, values: Tensor | undefined, type: KvType): CellTensors {
    const keyHeadBytes = headBytes(keyLength, type);
    if (values === undefined) return { keys, values: keys, keyHeadBytes, valueHeadBytes: keyHeadBytes };
    return { keys, values, keyHeadBytes, valueHeadBytes: headBytes(valueLength, type) };
  }

  #filled(slot: number, cells: number): void {
    this.#zeroed[slot] = Math.max(this.#zeroed[slot]!, cells);
  }
}

function outOfMemory(bytes: number): StelliumError {
  return new StelliumError("OUT_OF_MEMORY", { what: "the KV cache", needed: `${bytes} bytes`, available: "less" });
}
