import { createHash, type Hash } from "node:crypto";
import { type ByteSource, openFile } from "./byteSource.ts";
import type { GgufModel, GgufTensor } from "./gguf/model.ts";

/** What is looked at of a tensor, from its middle. */
const sampleBytes = 4096;
/** Reads at a time: a disk answers several sooner than one after the other, an URL even more so. */
const parallelReads = 16;
const headerStep = 2 ** 20;

/**
 * Identity of a model: SHA-256 over all bytes of its files' headers (metadata, names, types, shapes, offsets), the
 * files' lengths, and 4 KiB from the middle of every tensor. Neither names of files nor dates are in it, so a copy is
 * the same model.
 *
 * It tells models, quantizations and fine-tunes apart, and files that were cut or have other metadata, even if only the
 * chat template. It does not notice bytes that changed elsewhere in a tensor, by a failing disk or on purpose: it is no
 * proof of integrity.
 *
 * Throws what `open` does.
 */
export async function modelHash(
  model: GgufModel,
  open: (path: string) => Promise<ByteSource> = openFile,
): Promise<string> {
  const hash = createHash("sha256");
  const tensors = [...model.tensors.values()];
  for (const [file, path] of model.files.entries()) {
    const source = await open(path);
    try {
      await hashFile(hash, source, byOffset(tensors, file));
    } finally {
      await source.close();
    }
  }
  return hash.digest("hex");
}

function byOffset(tensors: readonly GgufTensor[], file: number): GgufTensor[] {
  return tensors.filter((tensor) => tensor.file === file).sort((a, b) => a.offset - b.offset);
}

async function hashFile(hash: Hash, source: ByteSource, tensors: readonly GgufTensor[]): Promise<void> {
  hash.update(`${source.size}\n`);
  const header = tensors[0]?.offset ?? source.size;
  for (let at = 0; at < header; at += headerStep) hash.update(await source.read(at, Math.min(headerStep, header - at)));
  for (let i = 0; i < tensors.length; i += parallelReads) {
    const samples = await Promise.all(tensors.slice(i, i + parallelReads).map((tensor) => sample(source, tensor)));
    for (const bytes of samples) hash.update(bytes);
  }
}

function sample(source: ByteSource, { offset, bytes }: GgufTensor): Promise<Uint8Array> {
  const length = Math.min(sampleBytes, bytes);
  return source.read(offset + Math.floor((bytes - length) / 2), length);
}
