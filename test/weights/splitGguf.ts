import { tensorTypes } from "#stellium/native/tensorTypes";
import type { GgufTensor } from "#stellium/weights/gguf/model";
import { readGguf } from "#stellium/weights/gguf/reader";

const alignment = 32;

/** Splits a model's file as llama.cpp's gguf-split does: its metadata are those of the first part. */
export async function splitGguf(path: string, content: Buffer, count: number): Promise<Buffer[]> {
  const { tensors, metadata } = await readGguf(path);
  const all = [...tensors.values()];
  const metadataEnd = content.indexOf(Buffer.concat([uint64(all[0]!.name.length), Buffer.from(all[0]!.name)]));
  const own = content.subarray(24, metadataEnd);
  const each = Math.ceil(all.length / count);
  return Array.from({ length: count }, (_, no) => {
    const some = all.slice(no * each, (no + 1) * each);
    const split = [entry("split.no", 2, uint16(no)), entry("split.count", 2, uint16(count))];
    const entries = [...split, entry("split.tensors.count", 5, uint32(all.length))];
    const first = no === 0 ? [own] : [];
    const counts = [uint64(some.length), uint64(entries.length + (no === 0 ? metadata.size : 0))];
    const head = Buffer.concat([content.subarray(0, 8), ...counts, ...first, ...entries, ...infos(some)]);
    const data = some.flatMap(({ offset, bytes }) => padded(content.subarray(offset, offset + bytes)));
    return Buffer.concat([...padded(head), ...data]);
  });
}

function infos(tensors: readonly GgufTensor[]): Buffer[] {
  let offset = 0;
  return tensors.map(({ name, shape, type, bytes }) => {
    const start = offset;
    offset += Math.ceil(bytes / alignment) * alignment;
    const dimensions = [uint32(shape.length), ...shape.map(uint64)];
    return Buffer.concat([text(name), ...dimensions, uint32(tensorTypes[type].id), uint64(start)]);
  });
}

function entry(key: string, type: number, value: Buffer): Buffer {
  return Buffer.concat([text(key), uint32(type), value]);
}

function text(value: string): Buffer {
  return Buffer.concat([uint64(value.length), Buffer.from(value)]);
}

function padded(bytes: Buffer): Buffer[] {
  return [bytes, Buffer.alloc((alignment - (bytes.length % alignment)) % alignment)];
}

function uint16(value: number): Buffer {
  return Buffer.from(Uint16Array.of(value).buffer);
}

function uint32(value: number): Buffer {
  return Buffer.from(Uint32Array.of(value).buffer);
}

function uint64(value: number): Buffer {
  return Buffer.from(BigUint64Array.of(BigInt(value)).buffer);
}
