import { type FileHandle, open, utimes } from "node:fs/promises";
import { dirname } from "node:path";
import { StelliumError } from "../errors.ts";
import { BlockChecksum } from "./checksum.ts";
import { sliceName, slicePath } from "./sliceDirectory.ts";
import {
  type EncodedHeader,
  encodeHeader,
  readHeader,
  recordBytes,
  recordedChecksum,
  type SliceBlock,
  type SliceHeader,
} from "./sliceHeader.ts";
import { sliceBufferBytes } from "./sliceReader.ts";

/** What there is of a slice. */
export interface SliceCheck {
  /** Of the complete slice, whether it is there or not. */
  readonly path: string;
  /** Indices of the blocks that have to be fetched; none where the slice can be used. */
  readonly missing: readonly number[];
  /** Why they have to be, for people; undefined where none has. */
  readonly reason: string | undefined;
}

/** How a slice is checked. */
export interface CheckOptions {
  /** Reads all of it and compares the checksums; otherwise the journal is believed. */
  readonly verify?: boolean;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Says which blocks of a slice have to be fetched: all where there is none, or one that another model, version, device
 * or build made; otherwise those that are cut off, incomplete or, if asked to verify, damaged. A slice that can be used
 * is marked as used now. A file that cannot be opened counts as none: what writes the slice then says why. Throws `ABORTED`.
 *
 * @param wanted - what it should be, as `layOutSlice` makes it
 */
export async function checkSlice(
  directory: string,
  wanted: SliceHeader,
  { verify = false, signal }: CheckOptions = {},
): Promise<SliceCheck> {
  const path = slicePath(directory, wanted);
  const all = filledBlocks(wanted);
  const slice = await openSlice(path).catch((error: Error) => error);
  if (slice instanceof Error) return { path, missing: all, reason: reasonOf(slice) };
  await using opened = slice;
  const difference = differenceOf(opened, wanted);
  if (difference !== undefined) return { path, missing: all, reason: difference };
  const missing = await opened.incomplete();
  if (missing.length > 0) return { path, missing, reason: `${missing.length} of its blocks are incomplete` };
  const damaged = verify ? await opened.damaged(signal) : [];
  if (damaged.length > 0) return { path, missing: damaged, reason: `${damaged.length} of its blocks are damaged` };
  const now = new Date();
  await utimes(path, now, now).catch(() => {});
  return { path, missing: [], reason: undefined };
}

/** Compares the checksum of one block of a slice. Throws `SLICE_INVALID`, `FILE_UNREADABLE`. */
export async function verifyBlock(path: string, index: number): Promise<boolean> {
  await using slice = await openSlice(path);
  return await slice.verifyBlock(index);
}

/** Indices of the blocks that have any bytes. */
export function filledBlocks({ blocks }: SliceHeader): number[] {
  return blocks.flatMap(({ tensors }, i) => (tensors.length > 0 ? [i] : []));
}

/** Opens a slice's file, complete or not, whose header is valid. Throws `SLICE_INVALID`, `FILE_UNREADABLE`. */
export async function openSlice(path: string, flags: "r" | "r+" = "r"): Promise<SliceFile> {
  const handle = await open(path, flags).catch((error: Error) => {
    throw new StelliumError("FILE_UNREADABLE", { path, reason: error.message }, { cause: error });
  });
  try {
    const { header, encoded } = await readHeader((offset, length) => readUpTo(handle, offset, length));
    return new SliceFile(path, handle, header, encoded, (await handle.stat()).size);
  } catch (error) {
    await handle.close();
    throw new StelliumError("SLICE_INVALID", { path, reason: (error as Error).message }, { cause: error });
  }
}

/** A slice's file with a valid header. */
export class SliceFile implements AsyncDisposable {
  readonly path: string;
  readonly handle: FileHandle;
  readonly header: SliceHeader;
  readonly encoded: EncodedHeader;
  /** Bytes of the file, which may have been cut. */
  readonly bytes: number;

  constructor(path: string, handle: FileHandle, header: SliceHeader, encoded: EncodedHeader, bytes: number) {
    this.path = path;
    this.handle = handle;
    this.header = header;
    this.encoded = encoded;
    this.bytes = bytes;
  }

  /** Blocks without a valid record in the journal, or beyond the file's end. */
  async incomplete(): Promise<number[]> {
    const journal = await this.#journal();
    const { dataOffset, hash } = this.encoded;
    return filledBlocks(this.header).filter((i) => {
      const { offset, bytes } = this.header.blocks[i]!;
      const cut = dataOffset + offset + bytes > this.bytes;
      return cut || recordedChecksum(hash, journal, i, bytes) === undefined;
    });
  }

  /** Blocks whose bytes are not those that were written. */
  async damaged(signal?: AbortSignal): Promise<number[]> {
    const damaged: number[] = [];
    for (const i of filledBlocks(this.header)) {
      if (signal?.aborted) throw new StelliumError("ABORTED", { reason: String(signal.reason) });
      if (!(await this.verifyBlock(i))) damaged.push(i);
    }
    return damaged;
  }

  /** Whether block `index` is complete and its bytes are those that were written. */
  async verifyBlock(index: number): Promise<boolean> {
    const block = this.header.blocks[index];
    if (block === undefined) throw this.#invalid(`it has no block ${index}`);
    if (block.tensors.length === 0) return true;
    const recorded = recordedChecksum(this.encoded.hash, await this.#journal(), index, block.bytes);
    return recorded?.equals(await this.#checksum(block)) ?? false;
  }

  /** The checksums that were recorded as blocks were written, by block; undefined where a block has no valid record. */
  async checksums(): Promise<(Uint8Array | undefined)[]> {
    const journal = await this.#journal();
    return this.header.blocks.map(({ bytes }, i) => recordedChecksum(this.encoded.hash, journal, i, bytes));
  }

  async #checksum({ offset, tensors }: SliceBlock): Promise<Uint8Array> {
    const checksum = new BlockChecksum();
    for (const tensor of tensors) {
      const start = this.encoded.dataOffset + offset + tensor.offset;
      for (let done = 0; done < tensor.bytes; done += sliceBufferBytes) {
        const length = Math.min(sliceBufferBytes, tensor.bytes - done);
        checksum.update(await readUpTo(this.handle, start + done, length));
      }
    }
    return checksum.digest();
  }

  #journal(): Promise<Uint8Array> {
    return readUpTo(this.handle, this.encoded.journalOffset, this.header.blocks.length * recordBytes);
  }

  #invalid(reason: string): StelliumError {
    return new StelliumError("SLICE_INVALID", { path: this.path, reason });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.handle.close();
  }
}

/** How a slice's header differs from what is wanted, or undefined where it does not. */
export function differenceOf({ header, encoded }: SliceFile, wanted: SliceHeader): string | undefined {
  if (encoded.bytes.equals(encodeHeader(wanted).bytes)) return undefined;
  const { model, device } = header;
  if (model.hash !== wanted.model.hash) return "it is of another model";
  if (sliceName(header) !== sliceName(wanted)) return "it is of another share";
  if (device.ggml !== wanted.device.ggml) return `ggml ${device.ggml} laid it out, not ${wanted.device.ggml}`;
  const features = (names: readonly string[]) => names.join(" ");
  if (features(device.features) === features(wanted.device.features)) return "it is laid out otherwise";
  return `it was laid out for a processor with ${features(device.features)}`;
}

function reasonOf(error: Error): string {
  if (!(error instanceof StelliumError)) throw error;
  const { code } = (error.cause ?? {}) as NodeJS.ErrnoException;
  return code === "ENOENT" ? "it has not been fetched yet" : String(error.values["reason"]);
}

/** Reads `length` bytes, or fewer where the file ends. */
async function readUpTo(handle: FileHandle, offset: number, length: number): Promise<Uint8Array> {
  const bytes = Buffer.allocUnsafe(length);
  let done = 0;
  while (done < length) {
    const { bytesRead } = await handle.read(bytes, done, length - done, offset + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return bytes.subarray(0, done);
}

/** Writes a directory's entries to disk, where the system can be asked to. */
export async function syncDirectoryOf(path: string): Promise<void> {
  if (process.platform === "win32") return;
  const handle = await open(dirname(path), "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
