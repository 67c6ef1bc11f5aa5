import type { ByteSource } from "#stellium/weights/byteSource";

/** Numbers of GGUF's metadata types. */
export const valueType = {
  uint8: 0,
  int8: 1,
  uint16: 2,
  int16: 3,
  uint32: 4,
  int32: 5,
  float32: 6,
  bool: 7,
  string: 8,
  array: 9,
  uint64: 10,
  int64: 11,
  float64: 12,
} as const;

type Scalar = number | bigint | boolean | string;

/** A metadata value with its type; in an array, `of` is the elements' type. */
export type Value =
  | { type: Exclude<keyof typeof valueType, "array">; value: Scalar }
  | { type: "array"; of: keyof typeof valueType; value: readonly (Scalar | Value)[] };

export interface Tensor {
  name: string;
  shape: readonly (number | bigint)[];
  /** Number of its type; F32 by default. */
  type?: number;
  /** In the data section. */
  offset?: number | bigint;
}

export interface File {
  magic?: string;
  version?: number;
  entries?: readonly (readonly [key: string, value: Value])[];
  tensors?: readonly Tensor[];
  alignment?: number;
  dataBytes?: number;
  entryCount?: number | bigint;
  tensorCount?: number | bigint;
}

/** The bytes of a GGUF file, right or wrong as told. */
export function buildGguf({
  magic = "GGUF",
  version = 3,
  entries = [],
  tensors = [],
  alignment = 32,
  dataBytes = 0,
  entryCount = entries.length,
  tensorCount = tensors.length,
}: File): Buffer {
  const header = Buffer.concat([
    Buffer.from(magic, "latin1"),
    uint32(version),
    uint64(tensorCount),
    uint64(entryCount),
    ...entries.flatMap(([key, value]) => [string(key), uint32(valueType[value.type]), encode(value)]),
    ...tensors.map(describe),
  ]);
  const padding = dataBytes === 0 ? 0 : (alignment - (header.length % alignment)) % alignment;
  return Buffer.concat([header, Buffer.alloc(padding + dataBytes)]);
}

/** Opens files that lie in memory, and counts what is read of them. */
export function memoryOpener(files: Readonly<Record<string, Uint8Array>>) {
  const counts = { opened: 0, closed: 0, bytesRead: 0 };
  const open = async (name: string): Promise<ByteSource> => {
    const bytes = files[name];
    if (!bytes) throw new Error(`there is no ${name}`);
    counts.opened++;
    return {
      name,
      size: bytes.length,
      async read(offset, length) {
        if (offset < 0 || length < 0 || offset + length > bytes.length) throw new Error("read outside the file");
        counts.bytesRead += length;
        return bytes.slice(offset, offset + length);
      },
      async close() {
        counts.closed++;
      },
    };
  };
  return { open, counts };
}

/** The whole header of a small model with every kind of metadata, for tests that then break it. */
export function sampleFile(): File {
  return {
    entries: [
      ["general.architecture", { type: "string", value: "llama" }],
      ["u8", { type: "uint8", value: 200 }],
      ["i8", { type: "int8", value: -100 }],
      ["u16", { type: "uint16", value: 60000 }],
      ["i16", { type: "int16", value: -30000 }],
      ["u32", { type: "uint32", value: 4e9 }],
      ["i32", { type: "int32", value: -2e9 }],
      ["f32", { type: "float32", value: 0.5 }],
      ["f64", { type: "float64", value: Math.PI }],
      ["yes", { type: "bool", value: true }],
      ["u64", { type: "uint64", value: 2n ** 40n }],
      ["u64.large", { type: "uint64", value: 2n ** 63n + 1n }],
      ["i64", { type: "int64", value: -(2n ** 40n) }],
      ["text", { type: "string", value: "çä水\u{1f30a}" }],
      ["strings", { type: "array", of: "string", value: ["a", "", "▁the", "\n"] }],
      ["array.u8", { type: "array", of: "uint8", value: [1, 2, 255] }],
      ["array.i32", { type: "array", of: "int32", value: [1, -2, 3] }],
      ["array.f32", { type: "array", of: "float32", value: [0.5, -1.5] }],
      ["array.u64", { type: "array", of: "uint64", value: [1n, 2n ** 64n - 1n] }],
      ["array.bool", { type: "array", of: "bool", value: [true, false, true] }],
      ["array.empty", { type: "array", of: "string", value: [] }],
      [
        "nested",
        {
          type: "array",
          of: "array",
          value: [
            { type: "array", of: "uint16", value: [1, 2] },
            { type: "array", of: "string", value: ["x"] },
          ],
        },
      ],
    ],
    tensors: [
      { name: "token_embd.weight", shape: [32, 4], type: 8 },
      { name: "output_norm.weight", shape: [32], offset: 160 },
    ],
    dataBytes: 288,
  };
}

function describe({ name, shape, type = 0, offset = 0 }: Tensor): Buffer {
  return Buffer.concat([string(name), uint32(shape.length), ...shape.map(uint64), uint32(type), uint64(offset)]);
}

function encode(value: Value): Buffer {
  return value.type === "array" ? encodeArray(value) : encodeScalar(value.type, value.value);
}

function encodeArray({ of, value }: Extract<Value, { type: "array" }>): Buffer {
  const elements = value.map((element) => (typeof element === "object" ? encode(element) : encodeScalar(of, element)));
  return Buffer.concat([uint32(valueType[of]), uint64(value.length), ...elements]);
}

function encodeScalar(type: keyof typeof valueType, value: unknown): Buffer {
  if (type === "string") return string(value as string);
  const bytes = Buffer.alloc({ 8: 1, 16: 2, 32: 4, 64: 8 }[/\d+$/.exec(type)?.[0] ?? "8"] ?? 1);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  if (type === "bool") view.setUint8(0, Number(value));
  else if (type === "uint64" || type === "int64")
    view.setBigUint64(0, BigInt.asUintN(64, BigInt(value as bigint)), true);
  else if (type === "float32") view.setFloat32(0, value as number, true);
  else if (type === "float64") view.setFloat64(0, value as number, true);
  else if (bytes.length === 4) view.setUint32(0, value as number, true);
  else if (bytes.length === 2) view.setUint16(0, value as number, true);
  else view.setUint8(0, value as number);
  return bytes;
}

function string(text: string): Buffer {
  const bytes = Buffer.from(text, "utf8");
  return Buffer.concat([uint64(bytes.length), bytes]);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0);
  return bytes;
}

function uint64(value: number | bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}
