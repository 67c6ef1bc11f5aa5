import { createHash } from "node:crypto";
import { buildGguf, type Value } from "../weights/ggufBuilder.ts";

/** A model's file of about `bytes` bytes, all different from those of another seed. */
export function modelFile(bytes: number, seed = 1): Buffer {
  return part(bytes, seed, []);
}

/** The files of a model that was split, by their names. */
export function splitModel(stem: string, count: number, bytes: number): Record<string, Buffer> {
  const digits = (value: number) => String(value).padStart(5, "0");
  const uint16 = (value: number): Value => ({ type: "uint16", value });
  const parts = Array.from({ length: count }, (_, i) => {
    const entries = [
      ["split.no", uint16(i)],
      ["split.count", uint16(count)],
      ["split.tensors.count", { type: "int32", value: count }],
    ] as const;
    return [`${stem}-${digits(i + 1)}-of-${digits(count)}.gguf`, part(bytes, i, entries)] as const;
  });
  return Object.fromEntries(parts);
}

function part(bytes: number, seed: number, entries: readonly (readonly [string, Value])[]): Buffer {
  const rows = Math.ceil(bytes / 4096);
  const tensors = [{ name: `t${seed}`, shape: [1024, rows] }];
  const file = buildGguf({
    entries: [["general.architecture", { type: "string", value: "llama" }], ...entries],
    tensors,
    dataBytes: rows * 4096,
  });
  const data = file.subarray(-rows * 4096);
  for (let i = 0; i < data.length; i += 4) data.writeUInt32LE(Math.imul(i + seed, 2654435761) >>> 0, i);
  return file;
}

/** In hexadecimal. */
export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** What Git calls a file of these bytes. */
export function gitHash(bytes: Uint8Array): string {
  return createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex");
}
