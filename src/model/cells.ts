import { StelliumError } from "../errors.ts";
import type { Tensor } from "../native/ggml.ts";
import { rowBytes, tensorTypes } from "../native/tensorTypes.ts";
import type { RankShare, Unit } from "./split.ts";

/** Types that keys and values can be kept in, by the names of the option `--kv`. */
export const kvTypes = { f32: "F32", f16: "F16", q8_0: "Q8_0" } as const;

/** A type of KV cache. */
export type KvType = keyof typeof kvTypes;

/** Attention looks at cells in such steps, so that a graph serves several tokens. */
export const cellStep = 256;

/** `cells`, rounded up to what attention looks at. */
export function paddedCells(cells: number): number {
  return Math.ceil(cells / cellStep) * cellStep;
}

/** The state of a block that keeps keys and values: what one cell, which is one token's, has for each unit of a share. */
export interface CellState {
  readonly unit: Unit;
  /** Heads of each unit. */
  readonly heads: number;
  /** Values of a key, and of a value. */
  readonly keyLength: number;
  readonly valueLength: number;
  /** True if all units of a share have one key in common, whose first values are the value. Default false. */
  readonly latent?: boolean;
}

/** Keys that one cell has for a share. */
export function keysPerCell({ unit, heads, latent = false }: CellState, share: RankShare): number {
  return latent ? Math.min(1, share[unit].count) : share[unit].count * heads;
}

/** Bytes of a key, or of a value, in the cache. Throws `MODEL_UNSUPPORTED` if it does not fit the type's blocks. */
export function headBytes(length: number, type: KvType): number {
  const name = kvTypes[type];
  if (length % tensorTypes[name].blockElements !== 0) {
    const reason = `heads of ${length} values do not divide into the blocks of a ${type} KV cache`;
    throw new StelliumError("MODEL_UNSUPPORTED", { model: "this model", reason });
  }
  return rowBytes(name, length);
}

/** Bytes of one cell in the caches of all blocks that have one. Throws `MODEL_UNSUPPORTED`. */
export function cellBytes(states: readonly CellState[], share: RankShare, type: KvType): number {
  const bytes = (state: CellState) => {
    const [key, value] = [headBytes(state.keyLength, type), headBytes(state.valueLength, type)];
    return keysPerCell(state, share) * (state.latent ? key : key + value);
  };
  return states.reduce((sum, state) => sum + bytes(state), 0);
}

/** Keys and values of one block, as graphs store and read them. */
export interface CellTensors {
  /** (heads * head length, cells of all slots) */
  readonly keys: Tensor;
  /** The same as `keys`, if the state is latent. */
  readonly values: Tensor;
  /** Bytes of one head of one cell. */
  readonly keyHeadBytes: number;
  readonly valueHeadBytes: number;
}
