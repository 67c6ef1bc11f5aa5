import { type ByteSource, openFile } from "../byteSource.ts";
import { type HeaderBudget, headerBudget } from "./cursor.ts";
import type { GgufModel } from "./model.ts";
import { type GgufPart, readPart } from "./part.ts";
import { checkPart, checkTensorCount, joinTensors, partPaths } from "./split.ts";

/**
 * Reads what a GGUF model (version 2 or 3, little-endian) says about itself, but not its tensors' data. `path` may name
 * any part of a split model: the others are looked for beside it, and the metadata are those of the first part.
 * Reads through `open`, and closes what it opened. With `headerOnly`, the data may be missing, in part or at all.
 *
 * Throws `FILE_UNREADABLE`, `GGUF_INVALID` (with the byte offset at fault), or `MODEL_UNSUPPORTED` for a version, byte
 * order or tensor type that is not known. Takes no more memory than the files' size and 64 MB, whatever they hold.
 */
export async function readGguf(
  path: string,
  open: (path: string) => Promise<ByteSource> = openFile,
  { headerOnly = false }: { headerOnly?: boolean } = {},
): Promise<GgufModel> {
  const budget = headerBudget();
  const paths = partPaths(path);
  const parts: GgufPart[] = [];
  for (const [file, name] of paths.entries()) {
    const part = await openPart(name, file, open, budget, headerOnly);
    checkPart(part, file, paths.length);
    parts.push(part);
  }
  checkTensorCount(parts);
  return joined(parts);
}

async function openPart(
  path: string,
  file: number,
  open: (path: string) => Promise<ByteSource>,
  budget: HeaderBudget,
  headerOnly: boolean,
): Promise<GgufPart> {
  const source = await open(path);
  try {
    return await readPart(source, file, budget, headerOnly);
  } finally {
    await source.close();
  }
}

function joined(parts: readonly GgufPart[]): GgufModel {
  const { version, metadata } = parts[0]!;
  return {
    files: parts.map((part) => part.path),
    fileBytes: parts.map((part) => part.bytes),
    version,
    metadata,
    tensors: joinTensors(parts),
  };
}
