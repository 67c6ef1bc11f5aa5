import type { Tensor } from "../native/ggml.ts";
import type { ExpertPool } from "./pool/expertPool.ts";
import type { BlockWindow } from "./window/window.ts";

/** The weights of a rank as graphs are built from them. */
export interface Weights extends Disposable {
  /** Bytes of all weights in their layouts, wherever they are. */
  readonly bytes: number;
  /** Bytes that are always in memory. */
  readonly pinnedBytes: number;
  /** Bytes of memory that the others pass through. */
  readonly windowBytes: number;
  /** Number of tensors by name of layout. */
  readonly layouts: ReadonlyMap<string, number>;
  readonly window: BlockWindow;
  /** The experts, one by one; undefined if there are none. */
  readonly pool: ExpertPool | undefined;
  /** True if each matrix of all experts of a block is one tensor as well: they are all in memory, and alike. */
  readonly stacked: boolean;
  /** The tensor of this GGUF name: of a matrix of experts, all of them, if they are stacked. */
  get(name: string): Tensor;
  /**
   * Reads what is always in memory. Progress is in `counters` (see `loadCounter`). Throws `FILE_UNREADABLE`,
   * `SLICE_INVALID`.
   */
  load(threads: number, counters: Int32Array): Promise<void>;
}
