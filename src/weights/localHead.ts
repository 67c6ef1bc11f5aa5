import { type FileHandle, open, rename, rm, stat, utimes } from "node:fs/promises";
import { join } from "node:path";
import { fileMode, makeFolder } from "../system/makeFolder.ts";
import type { ByteSource } from "./byteSource.ts";
import type { GgufModel, GgufTensor } from "./gguf/model.ts";
import { Hold } from "./hold.ts";
import type { CacheRoom } from "./kept.ts";
import type { ModelSource } from "./modelSource.ts";
import { cacheDirectory, partialPath } from "./sliceDirectory.ts";
import { checkRoom, onDisk, realDisk } from "./sliceDisk.ts";

/** What of a remote model is on this device's disk beside slices. */
export interface LocalHead {
  readonly directory: string;
  /** Paths of the model's files. */
  readonly files: readonly string[];
  /** Bytes that were fetched and stored now; 0 where they had been before. */
  readonly stored: number;
  /** Keeps it from being removed to make room. */
  readonly hold: Hold;
}

/** Bytes from `start` on. */
interface Piece {
  readonly start: number;
  readonly bytes: number;
}

const stepBytes = 8 * 2 ** 20;

/** Where headers with vocabulary and embedding are, in a cache directory. */
export function headDirectory(cache = cacheDirectory()): string {
  return join(cache, "heads");
}

/**
 * Has the headers (with the vocabulary) and the embedding of a remote model on the local disk, once: files as long as
 * the model's, with holes where all other tensors would be, so that they take no more room than what is stored. The
 * tokenizer and the embedding read them as if they were the model. Throws `CACHE_FULL`, `DISK_FULL`, `CACHE_UNWRITABLE`,
 * and what reading the model does.
 */
export async function localHead(source: ModelSource, room: CacheRoom, cache = cacheDirectory()): Promise<LocalHead> {
  const { model } = source;
  const name = (await source.hash()).slice(0, 32);
  const directory = join(headDirectory(cache), name);
  const names = model.files.map((_, file) => join(directory, nameOf(file, model.files.length)));
  if (await isComplete(names, model)) {
    const now = new Date();
    await utimes(directory, now, now).catch(() => {});
    return { directory, files: names, stored: 0, hold: await Hold.on(directory) };
  }
  const sources = await source.files();
  const pieces = model.files.map((_, file) => piecesOf(model, file));
  const bytes = pieces.flat().reduce((sum, piece) => sum + piece.bytes, 0);
  const partial = partialPath(headDirectory(cache), name);
  await onDisk(directory, bytes, async () => {
    await room.claim(partial, bytes, async () => makeFolder(partial));
    try {
      await checkRoom(realDisk, partial, directory, bytes);
      for (const [file, from] of sources.entries()) {
        await store(join(partial, nameOf(file, sources.length)), from, pieces[file]!);
      }
      await rm(directory, { recursive: true, force: true });
      await rename(partial, directory);
    } finally {
      await rm(partial, { recursive: true, force: true });
    }
  });
  return { directory, files: names, stored: bytes, hold: await Hold.on(directory) };
}

/** Named as libllama expects it of the parts of a split model. */
function nameOf(file: number, count: number): string {
  const digits = (number: number) => String(number).padStart(5, "0");
  return count === 1 ? "model.gguf" : `model-${digits(file + 1)}-of-${digits(count)}.gguf`;
}

async function isComplete(paths: readonly string[], { fileBytes }: GgufModel): Promise<boolean> {
  const sizes = await Promise.all(
    paths.map((path) =>
      stat(path).then(
        ({ size }) => size,
        () => -1,
      ),
    ),
  );
  return sizes.every((size, file) => size === fileBytes[file]);
}

/** The header of a file, and the embeddings that are in it. */
function piecesOf({ tensors, fileBytes }: GgufModel, file: number): Piece[] {
  const own = [...tensors.values()].filter((tensor) => tensor.file === file);
  const header = own.reduce((first, { offset }) => Math.min(first, offset), fileBytes[file]!);
  const embeddings = own.filter(({ name }) => /^(per_layer_)?token_embd\.weight$/.test(name));
  return [
    { start: 0, bytes: header },
    ...embeddings.map(({ offset, bytes }: GgufTensor) => ({ start: offset, bytes })),
  ];
}

async function store(path: string, source: ByteSource, pieces: readonly Piece[]): Promise<void> {
  const file = await open(path, "wx", fileMode);
  try {
    for (const piece of pieces) await copy(source, file, piece);
    await file.truncate(source.size);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function copy(source: ByteSource, file: FileHandle, { start, bytes }: Piece): Promise<void> {
  for (let done = 0; done < bytes; done += stepBytes) {
    const piece = await source.read(start + done, Math.min(stepBytes, bytes - done));
    await realDisk.write(file, piece, start + done);
  }
}
