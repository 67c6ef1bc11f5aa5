import { closeSync, openSync, readSync, writeSync } from "node:fs";
import { reasonOf, StelliumError } from "../errors.ts";
import type { NativeBytes } from "../native/memory.ts";
import { fileMode } from "../system/makeFolder.ts";
import { openNew } from "../system/outputFile.ts";
import { BlockChecksum } from "../weights/checksum.ts";
import type { CellStore } from "./cellStore.ts";

/** Most copies in a file: what is said of them fits into a message between the threads. */
export const mostKeptCopies = 256;
const mostAtOnce = 2 ** 26;

/** A copy of cells in a file. */
export interface CellPlace {
  readonly key: number;
  readonly cells: number;
  /** In bytes. */
  readonly offset: number;
  /** Of its bytes, in hexadecimal digits. */
  readonly checksum: string;
}

/**
 * Writes copies to a new file that only its owner may read, one behind the other. Blocks.
 * Throws `FILE_UNWRITABLE`, and `PROTOCOL_VIOLATION` where there is no such copy.
 */
export function writeCells(store: CellStore, path: string, keys: readonly number[]): CellPlace[] {
  const file = asUnwritable(path, () => openNew(path, fileMode));
  try {
    let offset = 0;
    return keys.map((key) => {
      const { cells, bytes: memory } = store.stored(key);
      asUnwritable(path, () => writeWhole(file, memory, offset));
      offset += memory.bytes;
      return { key, cells, offset: offset - memory.bytes, checksum: checksumOf(memory) };
    });
  } finally {
    closeSync(file);
  }
}

/**
 * Takes copies from a file. Blocks. What is not as it was written is left out.
 *
 * @returns keys of those that are there now
 */
export function readCells(store: CellStore, path: string, places: readonly CellPlace[]): number[] {
  const file = openSync(path, "r");
  try {
    return places.filter((place) => readPlace(store, file, place)).map(({ key }) => key);
  } finally {
    closeSync(file);
  }
}

function readPlace(store: CellStore, file: number, { key, cells, offset, checksum }: CellPlace): boolean {
  const memory = store.allocate(key, cells);
  const sound = readWhole(file, memory, offset) && checksumOf(memory) === checksum;
  if (!sound) store.move({ move: "drop", key });
  return sound;
}

function writeWhole(file: number, memory: NativeBytes, offset: number): void {
  for (let done = 0; done < memory.bytes; ) {
    const piece = memory.part(done, Math.min(mostAtOnce, memory.bytes - done));
    done += writeSync(file, piece, 0, piece.length, offset + done);
  }
}

/** True if all of it could be read. */
function readWhole(file: number, memory: NativeBytes, offset: number): boolean {
  try {
    for (let done = 0; done < memory.bytes; ) {
      const piece = memory.part(done, Math.min(mostAtOnce, memory.bytes - done));
      const read = readSync(file, piece, 0, piece.length, offset + done);
      if (read === 0) return false;
      done += read;
    }
    return true;
  } catch {
    return false;
  }
}

function checksumOf(memory: NativeBytes): string {
  const checksum = new BlockChecksum();
  for (const part of memory.parts(0, memory.bytes)) checksum.update(part);
  return Buffer.from(checksum.digest()).toString("hex");
}

function asUnwritable<T>(path: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw new StelliumError("FILE_UNWRITABLE", { path, reason: reasonOf(error) }, { cause: error });
  }
}
