import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { StelliumError } from "../errors.ts";
import { tryLock } from "../native/fileLock.ts";
import type { Device, Ggml } from "../native/ggml.ts";
import { dropCache } from "../native/pageCache.ts";
import { fileMode, makeFolder } from "../system/makeFolder.ts";
import { BlockChecksum } from "./checksum.ts";
import type { CacheRoom } from "./kept.ts";
import { ByteFeed, SliceConverter } from "./sliceConverter.ts";
import { partialPath, sliceName, slicePath } from "./sliceDirectory.ts";
import { checkRoom, onDisk, realDisk, type SliceDisk } from "./sliceDisk.ts";
import {
  type EncodedHeader,
  encodeHeader,
  encodeRecord,
  recordBytes,
  type SliceBlock,
  type SliceHeader,
} from "./sliceHeader.ts";
import { expertKind } from "./sliceLayout.ts";
import { adoptSlice } from "./slicePartials.ts";
import { filledBlocks, syncDirectoryOf } from "./sliceStore.ts";

/** What a writer needs. */
export interface SliceWriterOptions {
  readonly ggml: Ggml;
  readonly device: Device;
  /** Where slices are kept; made if it is not there. */
  readonly directory: string;
  readonly header: SliceHeader;
  /** Blocks known to be damaged, to be written again. */
  readonly damaged?: readonly number[];
  readonly disk?: SliceDisk;
  /** Makes room in the cache; there is no limit if absent. */
  readonly room?: CacheRoom | undefined;
}

/**
 * Writes a slice block by block. A block counts once its bytes are on the disk and after them its record in the journal;
 * what was written before a cut is taken up by the next writer of the same slice. The file has a name of its own
 * until `finish`, so that no half slice is taken for a whole one; of two processes that write the same slice,
 * the one that ends last has its file stay.
 */
export class SliceWriter implements AsyncDisposable {
  /** Path of the slice once it is finished. */
  readonly path: string;
  readonly #options: SliceWriterOptions;
  readonly #encoded: EncodedHeader;
  readonly #partial: string;
  readonly #file: FileHandle;
  readonly #missing: Set<number>;
  #missingBytes: number;
  /** Records of the blocks that were written since the last ones counted. */
  readonly #written = new Map<number, Buffer>();
  readonly #disk: SliceDisk;
  readonly #converter: SliceConverter;
  #open = true;
  #finished = false;

  /**
   * Goes on with what there is of a slice: a damaged one, or what another writer has left behind; otherwise starts anew.
   * A slice of another build or device that is in the way is removed.
   * Throws `CACHE_FULL` or `DISK_FULL` before anything is written, `CACHE_UNWRITABLE` if the system refuses.
   */
  static open(options: SliceWriterOptions): Promise<SliceWriter> {
    const { directory, header, damaged = [], disk = realDisk, room = unlimited } = options;
    const partial = partialPath(directory, sliceName(header));
    return onDisk(directory, 0, async () => {
      makeFolder(directory);
      const complete = await adoptSlice(directory, header, partial, damaged);
      const missing = filledBlocks(header).filter((i) => !complete?.has(i) || damaged.includes(i));
      try {
        return await room.claim(partial, encodeHeader(header).fileBytes, async () => {
          await checkRoom(disk, directory, slicePath(directory, header), bytesOf(header, missing));
          const file = await open(partial, complete ? "r+" : "wx+", fileMode);
          tryLock(file.fd, "shared");
          return await new SliceWriter(options, partial, file, missing).#begin(complete === undefined);
        });
      } catch (error) {
        await released(partial, options);
        throw error;
      }
    });
  }

  private constructor(options: SliceWriterOptions, partial: string, file: FileHandle, missing: readonly number[]) {
    this.path = slicePath(options.directory, options.header);
    this.#options = options;
    this.#encoded = encodeHeader(options.header);
    this.#partial = partial;
    this.#file = file;
    this.#missing = new Set(missing);
    this.#missingBytes = bytesOf(options.header, missing);
    this.#disk = options.disk ?? realDisk;
    this.#converter = new SliceConverter(options.ggml, options.device);
  }

  /** Blocks that are still to be written, in order. */
  get missing(): readonly number[] {
    return [...this.#missing].sort((a, b) => a - b);
  }

  /**
   * Writes one missing block. Where that fails it stays missing, and the writer can go on, also with the same block. An
   * expert, which is small, may count later, together with the following ones.
   * Throws what `plain` does, `SLICE_INVALID` where it has too few bytes or too many, `DISK_FULL`, `CACHE_UNWRITABLE`.
   *
   * @param plain - the plain bytes of all the block's tensors, in the header's order, in pieces of any size
   */
  async writeBlock(index: number, plain: AsyncIterable<Uint8Array>): Promise<void> {
    const block = this.#options.header.blocks[index];
    if (block === undefined || !this.#missing.has(index)) throw this.#invalid(`its block ${index} is not missing`);
    const feed = new ByteFeed(plain, (reason) => this.#invalid(`what came for its block ${index} ${reason}`));
    try {
      const checksum = await this.#write(block, feed);
      this.#written.set(index, encodeRecord(this.#encoded.hash, index, block.bytes, checksum));
      if (block.kind !== expertKind || this.#writtenBytes >= syncBytes) await this.#settle();
    } finally {
      await feed.close();
    }
  }

  /**
   * Gives the slice its name, and returns its path. It is not removed to make room before the writer is disposed of.
   * Throws `SLICE_INVALID` where blocks are missing.
   */
  async finish(): Promise<string> {
    await this.#settle();
    if (this.#missing.size > 0) throw this.#invalid(`${this.#missing.size} of its blocks are missing`);
    await this.#onDisk(async () => {
      await this.#file.sync();
      await rename(this.#partial, this.path);
      await syncDirectoryOf(this.path);
    });
    this.#finished = true;
    return this.path;
  }

  /** Stops writing. What was written stays, for the next writer. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#open) return;
    await this.#settle().catch(() => {});
    await this.#close();
    if (this.#finished) return;
    const { header } = this.#options;
    if (this.#missing.size === filledBlocks(header).length) await this.#remove();
    else await released(this.#partial, this.#options);
  }

  get #writtenBytes(): number {
    return bytesOf(this.#options.header, [...this.#written.keys()]);
  }

  /** Has the disk keep what was written, and then records it: these blocks count. Otherwise they stay missing. */
  async #settle(): Promise<void> {
    const written = [...this.#written];
    this.#written.clear();
    if (written.length === 0) return;
    await this.#onDisk(async () => {
      await this.#file.datasync();
      for (const [index, record] of written) {
        const { offset, bytes } = this.#options.header.blocks[index]!;
        // It is read past the cache, which has better use for its memory.
        dropCache(this.#file.fd, this.#encoded.dataOffset + offset, bytes);
        await this.#record(index, record);
      }
    });
    for (const [index] of written) {
      this.#missing.delete(index);
      this.#missingBytes -= this.#options.header.blocks[index]!.bytes;
    }
  }

  /** Nothing was written that another writer could use. */
  async #remove(): Promise<void> {
    await rm(this.#partial, { force: true }).catch(() => {});
  }

  async #close(): Promise<void> {
    this.#open = false;
    this.#converter[Symbol.dispose]();
    await this.#file.close();
  }

  /** Records of missing blocks are struck out before a file that was cut gets its length again. */
  async #begin(isNew: boolean): Promise<this> {
    try {
      await this.#onDisk(async () => {
        if (isNew) await this.#disk.write(this.#file, this.#encoded.bytes, 0);
        else for (const index of this.#missing) await this.#record(index, Buffer.alloc(recordBytes));
        await this.#file.datasync();
        await this.#file.truncate(this.#encoded.fileBytes);
      });
      return this;
    } catch (error) {
      await this.#close();
      throw error;
    }
  }

  async #write(block: SliceBlock, feed: ByteFeed): Promise<Uint8Array> {
    const checksum = new BlockChecksum();
    for (const tensor of block.tensors) {
      let offset = this.#encoded.dataOffset + block.offset + tensor.offset;
      for await (const piece of this.#converter.convert(tensor, feed)) {
        checksum.update(piece);
        await this.#onDisk(() => this.#disk.write(this.#file, piece, offset));
        offset += piece.length;
      }
    }
    await feed.expectEnd();
    return checksum.digest();
  }

  #record(index: number, record: Uint8Array): Promise<void> {
    return this.#disk.write(this.#file, record, this.#encoded.journalOffset + index * recordBytes);
  }

  #onDisk<T>(action: () => Promise<T>): Promise<T> {
    return onDisk(this.path, this.#missingBytes, action);
  }

  #invalid(reason: string): StelliumError {
    return new StelliumError("SLICE_INVALID", { path: this.path, reason });
  }
}

/** Experts that were written are made sure of when they have so many bytes together: a disk takes its time for that. */
const syncBytes = 32 * 2 ** 20;

const unlimited: CacheRoom = { claim: (_path, _bytes, create) => create() };

/** Leaves a partial slice, if there is one, to any other writer, by a name that says so. */
async function released(partial: string, { directory, header }: SliceWriterOptions): Promise<void> {
  await rename(partial, partialPath(directory, sliceName(header), 0)).catch(() => {});
}

function bytesOf({ blocks }: SliceHeader, indices: readonly number[]): number {
  return indices.reduce((sum, i) => sum + blocks[i]!.bytes, 0);
}
