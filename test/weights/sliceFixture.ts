import { cpuDevice, openGgml } from "#stellium/native/ggml";
import { rankDescription, slicedModel } from "#stellium/plan/rankDescription";
import { planShares } from "#stellium/plan/shares";
import type { ByteSource } from "#stellium/weights/byteSource";
import type { SliceHeader } from "#stellium/weights/sliceHeader";
import { type CutPlan, cutPlan, layOutSlice } from "#stellium/weights/sliceLayout";
import { readSlices } from "#stellium/weights/sliceReader";
import { SliceWriter, type SliceWriterOptions } from "#stellium/weights/sliceWriter";
import { describeShape, type Shape } from "../plan/description.ts";

export const ggml = openGgml();
export const device = cpuDevice(ggml);

/** Small, and with types of every kind of layout. */
export const shape: Shape = {
  layers: 4,
  kvHeads: 4,
  group: 2,
  headLength: 64,
  embedding: 512,
  ffn: 1536,
  vocabulary: 320,
  types: ["Q4_0", "Q2_K", "IQ4_NL", "F16"],
  biases: true,
  ropeFactors: true,
};

/** A file of arbitrary bytes: blocks of any bits are valid weights. */
export function memorySource(size: number, name = "model.gguf"): ByteSource & { reads: [number, number][] } {
  const bytes = Uint8Array.from({ length: size }, (_, i) => Math.imul(i + 1, 2654435761) >>> 13);
  const reads: [number, number][] = [];
  return {
    name,
    size,
    reads,
    async read(offset, length) {
      if (offset + length > size) throw new Error("read outside the file");
      reads.push([offset, length]);
      return bytes.slice(offset, offset + length);
    },
    async close() {},
  };
}

/** Everything about the slice of one rank. */
export function sliceOf(relative: readonly number[], rank: number, used: Shape = shape) {
  const description = describeShape(used);
  const plan = planShares(description, relative);
  const cut = cutPlan(slicedModel(rankDescription(description, plan, rank)), {
    hash: "ab".repeat(32),
    name: "a model",
  });
  return { cut, header: layOutSlice(cut.content, ggml, device), source: memorySource(description.fileBytes) };
}

/** The plain bytes of a block, in pieces of awkward sizes. */
export async function* plainBlock(source: ByteSource, cut: CutPlan, index: number): AsyncGenerator<Uint8Array> {
  for await (const bytes of readSlices([source], cut.blocks[index]!, 100_000)) {
    for (let at = 0; at < bytes.length; at += 7_777) yield bytes.subarray(at, at + 7_777);
  }
}

export function openWriter(
  directory: string,
  header: SliceHeader,
  more: Partial<SliceWriterOptions> = {},
): Promise<SliceWriter> {
  return SliceWriter.open({ ggml, device, directory, header, ...more });
}

/** Writes what is missing of a slice, and returns which blocks that was. */
export async function complete(
  directory: string,
  { cut, header, source }: ReturnType<typeof sliceOf>,
  more: Partial<SliceWriterOptions> = {},
): Promise<{ path: string; written: number[] }> {
  await using writer = await openWriter(directory, header, more);
  const written = [...writer.missing];
  for (const index of written) await writer.writeBlock(index, plainBlock(source, cut, index));
  return { path: await writer.finish(), written };
}
