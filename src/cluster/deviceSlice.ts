import { StelliumError } from "../errors.ts";
import { log } from "../log.ts";
import { cpuDevice, openGgml } from "../native/ggml.ts";
import type { WeightRooms } from "../plan/deviceMemory.ts";
import { type RankDescription, slicedModel } from "../plan/rankDescription.ts";
import { isWithoutCache } from "../system/cacheFolder.ts";
import type { Hold } from "../weights/hold.ts";
import { type BlockSource, obtainSlice } from "../weights/obtainSlice.ts";
import { pageBytes, roundUp } from "../weights/pages.ts";
import { sliceDirectory } from "../weights/sliceDirectory.ts";
import type { SliceHeader } from "../weights/sliceHeader.ts";
import { type CutPlan, cutPlan, expertKind, layOutSlice } from "../weights/sliceLayout.ts";
import { temporaryFolder } from "../weights/temporaryFolder.ts";
import { CacheLimit } from "./cacheLimit.ts";

/** A rank's slice as this device would store it. */
export interface DeviceSlice {
  readonly cut: CutPlan;
  readonly header: SliceHeader;
  readonly rooms: WeightRooms;
}

/** Where a slice is kept, and where it comes from. */
export interface SliceOrigin {
  readonly source: BlockSource;
  /** Folder of the cache; the default one if absent. */
  readonly cacheDir?: string | undefined;
  /** Bytes that the cache may take; see `CacheLimit`. */
  readonly cacheSize?: number | undefined;
  /** Whether it could not be loaded before; see `SliceWish`. */
  readonly suspect?: boolean | undefined;
  readonly onProgress?: ((bytes: number, total: number) => void) | undefined;
}

/** Lays out a rank's slice. Throws `MODEL_UNSUPPORTED` where this device does not multiply by one of its tensors. */
export function deviceSlice(description: RankDescription, model: { hash: string; name: string }): DeviceSlice {
  const ggml = openGgml();
  const { hash, name } = model;
  const cut = cutPlan(slicedModel(description), { hash, name });
  const header = layOutSlice(cut.content, ggml, cpuDevice(ggml));
  const rooms = (experts: boolean) =>
    header.blocks.flatMap(({ kind, bytes }) => ((kind === expertKind) === experts ? [roundUp(bytes, pageBytes)] : []));
  return { cut, header, rooms: { blocks: rooms(false), experts: rooms(true) } };
}

/** Keeps a slice on this device's disk, and holds it there. Throws what `obtainSlice` does, and `HOME_UNKNOWN`. */
export async function storedSlice(
  { header }: DeviceSlice,
  { cacheDir, cacheSize, ...origin }: SliceOrigin,
): Promise<Hold> {
  const ggml = openGgml();
  const directory = sliceDirectory(cacheDir);
  const room = new CacheLimit(cacheDir, cacheSize);
  return await obtainSlice({ ggml, device: cpuDevice(ggml), directory, header, room, ...origin });
}

/** Holds a worker's slices: in its cache directory or, if that cannot be written, in a folder that ends with the process. */
export class SliceStorage {
  #cacheDir: string | undefined;
  readonly #cacheSize: number | undefined;
  readonly #makeFolder: () => string | undefined;
  readonly #onUncached: ((error: StelliumError) => void) | undefined;

  /**
   * @param cache - folder and bytes it may take; defaults if absent
   * @param onUncached - told once why slices are not kept for the next start
   * @param makeFolder - see `temporaryFolder`
   */
  constructor(
    { cacheDir, cacheSize }: Pick<SliceOrigin, "cacheDir" | "cacheSize"> = {},
    onUncached?: (error: StelliumError) => void,
    makeFolder = () => temporaryFolder(),
  ) {
    this.#cacheDir = cacheDir;
    this.#cacheSize = cacheSize;
    this.#onUncached = onUncached;
    this.#makeFolder = makeFolder;
  }

  /** Where slices are kept. Throws `HOME_UNKNOWN`. */
  get directory(): string {
    return sliceDirectory(this.#cacheDir);
  }

  /** Obtains a slice, and holds it. Throws what `obtainSlice` does, and `HOME_UNKNOWN`. */
  async obtain(slice: DeviceSlice, origin: Omit<SliceOrigin, "cacheDir" | "cacheSize">): Promise<Hold> {
    let requested = false;
    const begin = (blocks: readonly number[]) => {
      requested = true;
      return origin.source.begin(blocks);
    };
    const source: BlockSource = { begin, block: (index) => origin.source.block(index) };
    const store = () => storedSlice(slice, { ...origin, source, cacheDir: this.#cacheDir, cacheSize: this.#cacheSize });
    try {
      return await store();
    } catch (error) {
      // Blocks that were requested are on their way, and cannot be requested again.
      if (requested || !this.#moveFrom(error)) throw error;
      return await store();
    }
  }

  #moveFrom(error: unknown): boolean {
    if (!isWithoutCache(error) || error.code === "DISK_FULL" || error.code === "CACHE_FULL") return false;
    const folder = this.#makeFolder();
    if (folder === undefined) return false;
    this.#onUncached?.(error);
    this.#cacheDir = folder;
    return true;
  }
}

/**
 * Starts an engine from a slice. If a block of it turns out to be damaged, that has been noted down in the slice where it
 * can be written, and one more attempt is made, for which the slice is suspect.
 */
export async function repaired<T>(start: (suspect: boolean) => Promise<T>): Promise<T> {
  try {
    return await start(false);
  } catch (error) {
    if (!(error instanceof StelliumError && error.code === "SLICE_INVALID")) throw error;
    log("warn", `${error.message}; it is repaired`);
    return await start(true);
  }
}
