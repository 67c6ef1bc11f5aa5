import { access, constants, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { z } from "zod";
import type { Coordinator } from "../cluster/coordinator.ts";
import { type CellPlace, mostKeptCopies } from "../engine/cellFile.ts";
import { reasonOf, StelliumError } from "../errors.ts";
import { log } from "../log.ts";
import { outputPath, unfinishedPath } from "../system/outputFile.ts";
import type { StoredPrefix } from "./prefixStore.ts";

// The file: cells of one prefix behind those of another; then what they are of, as JSON; then that text's length and a
// mark. So cells can be written before anything is known of them.

/** What has copies of cells, and can have them written and read. */
export type CellKeeper = Pick<Coordinator, "keepCells" | "bringCells">;

/** What cells are good for. */
export interface CellIdentity {
  /** The model's hash. */
  readonly model: string;
  readonly kvType: string;
  /** Of keys and values of one token. */
  readonly cellBytes: number;
  /** Of a model with two sets of RoPE factors, the one that keys were turned by. */
  readonly ropeFactors?: "long" | "short" | undefined;
}

const mark = Buffer.from("STLPREF1", "latin1");
const trailerBytes = mark.length + 4;
const largestIndex = 64 * 2 ** 20;

const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const token = z
  .number()
  .int()
  .min(0)
  .max(2 ** 31 - 1);
const indexSchema = z.strictObject({
  model: z.string().max(64),
  kvType: z.string().max(16),
  cellBytes: count,
  ropeFactors: z.enum(["long", "short"]).optional(),
  prefixes: z
    .array(
      z.strictObject({ tokens: z.array(token).min(1), offset: count, checksum: z.string().regex(/^[0-9a-f]{64}$/) }),
    )
    .max(mostKeptCopies),
});

type Index = z.infer<typeof indexSchema>;

/** Prefixes with their keys and values, in a file: what one run of a server leaves to the next. */
export class KeptPrefixes {
  readonly #path: string;
  readonly #identity: CellIdentity;
  readonly #keeper: CellKeeper;

  /** Throws `FILE_UNWRITABLE` where the file could not be written in the end; see `outputPath`. */
  static async open(named: string, identity: CellIdentity, keeper: CellKeeper): Promise<KeptPrefixes> {
    const path = outputPath(named);
    try {
      await access(dirname(path), constants.W_OK);
    } catch (error) {
      throw new StelliumError("FILE_UNWRITABLE", { path, reason: reasonOf(error) }, { cause: error });
    }
    return new KeptPrefixes(path, identity, keeper);
  }

  private constructor(path: string, identity: CellIdentity, keeper: CellKeeper) {
    this.#path = path;
    this.#identity = identity;
    this.#keeper = keeper;
  }

  /**
   * Takes up what an earlier run left, the least recently used first. A file that is no such, is of another model or is
   * damaged is said and left alone: there is nothing in it that could not be computed again.
   *
   * @param capacity - tokens that all may have together
   */
  async bring(capacity: number): Promise<StoredPrefix[]> {
    try {
      const index = await this.#read();
      if (index === undefined) return [];
      const fitting = withinCapacity(index, capacity);
      const places = fitting.map(({ tokens, ...where }, key) => ({ key, cells: tokens.length, ...where }));
      const sound = new Set(await this.#keeper.bringCells({ path: this.#path, places }));
      if (sound.size < places.length) this.#leaveOut(`${places.length - sound.size} of ${places.length} are damaged`);
      return fitting.map(({ tokens }, key) => ({ key, tokens })).filter(({ key }) => sound.has(key));
    } catch (error) {
      this.#leaveOut(reasonOf(error));
      return [];
    }
  }

  /** Writes prefixes, the least recently used first, over what the file had. Where that fails, it is said. */
  async keep(prefixes: readonly StoredPrefix[]): Promise<void> {
    const latest = prefixes.slice(-mostKeptCopies);
    const unfinished = unfinishedPath(this.#path);
    try {
      const keys = latest.map(({ key }) => key);
      const places = await this.#keeper.keepCells({ path: unfinished, keys });
      await appendIndex(unfinished, { ...this.#identity, prefixes: latest.map((each, i) => entry(each, places[i]!)) });
      await rename(unfinished, this.#path);
    } catch (error) {
      await rm(unfinished, { force: true });
      log("warn", "prefixes could not be kept", { path: this.#path, reason: reasonOf(error) });
    }
  }

  #leaveOut(reason: string): void {
    log("warn", "kept prefixes are not used", { path: this.#path, reason });
  }

  /** What the file says; undefined where there is none. */
  async #read(): Promise<Index | undefined> {
    const index = await readIndex(this.#path);
    const { model, kvType, cellBytes, ropeFactors } = this.#identity;
    if (index === undefined) return undefined;
    if (index.model !== model) throw new Error("they are of another model");
    if (index.kvType !== kvType || index.cellBytes !== cellBytes) throw new Error("they are of another type");
    if (index.ropeFactors !== ropeFactors) throw new Error("they are for contexts of another length");
    return index;
  }
}

function entry({ tokens }: StoredPrefix, { offset, checksum }: CellPlace): Index["prefixes"][number] {
  return { tokens: [...tokens], offset, checksum };
}

/** As many of the latest as there is room for. */
function withinCapacity({ prefixes }: Index, capacity: number): Index["prefixes"] {
  let room = capacity;
  const first = prefixes.findLastIndex(({ tokens }) => {
    room -= tokens.length;
    return room < 0;
  });
  return prefixes.slice(first + 1);
}

async function appendIndex(path: string, index: Index): Promise<void> {
  await using file = await open(path, "a");
  const text = Buffer.from(JSON.stringify(index));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(text.length);
  await file.appendFile(Buffer.concat([text, length, mark]));
  await file.sync();
}

async function readIndex(path: string): Promise<Index | undefined> {
  await using file = await open(path, "r").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
  if (file === undefined) return undefined;
  const { size } = await file.stat();
  const trailer = Buffer.alloc(trailerBytes);
  if (size >= trailerBytes) await file.read(trailer, 0, trailerBytes, size - trailerBytes);
  const bytes = trailer.readUInt32LE();
  const sound = trailer.subarray(4).equals(mark) && bytes <= Math.min(largestIndex, size - trailerBytes);
  if (!sound) throw new Error("it is no file of prefixes");
  const text = Buffer.alloc(bytes);
  await file.read(text, 0, bytes, size - trailerBytes - bytes);
  return indexSchema.parse(JSON.parse(text.toString()));
}
