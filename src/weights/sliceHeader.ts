import { createHash } from "node:crypto";
import { z } from "zod";
import { type TensorTypeName, tensorTypes } from "./gguf/types.ts";
import {
  checksumAlgorithm,
  type EncodedHeader,
  formatVersion,
  magic,
  pageBytes,
  places,
  preludeBytes,
} from "./sliceFormat.ts";

export * from "./sliceFormat.ts";

const largestHeader = 16 * 2 ** 20;

const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
/** More than any model has rows or columns. */
const index = z
  .number()
  .int()
  .min(0)
  .max(2 ** 31);
const range = z.strictObject({ start: index, count: index });
const word = z.string().max(256);
const typeName = z.enum(Object.keys(tensorTypes) as [TensorTypeName, ...TensorTypeName[]]);
const blockKind = z.enum(["attention", "ffn", "head", "shared"]);

const tensorPart = z.strictObject({
  name: word,
  kind: z.enum(["matrix", "vector"]),
  type: typeName,
  /** A vector is one row. */
  rows: range,
  columns: range,
});

/** A part of at least one row, of whole quantization blocks. */
function isPart({ kind, type, rows, columns }: z.infer<typeof tensorPart>): boolean {
  const { blockElements } = tensorTypes[type];
  const whole = columns.start % blockElements === 0 && columns.count % blockElements === 0;
  return whole && columns.count > 0 && (kind === "vector" ? rows.count === 1 : rows.count > 0);
}

const contentTensor = tensorPart.refine(isPart, "is no part of a tensor");

/** What a slice consists of, whatever device holds it: how the coordinator tells a worker. Checked as it comes in. */
export const sliceContentSchema = z.strictObject({
  model: z.strictObject({ hash: z.string().regex(/^[0-9a-f]{64}$/), name: word }),
  share: z.strictObject({ kvHeads: range, ffn: range, vocabulary: range }),
  blocks: z.array(z.strictObject({ kind: blockKind, layer: count, tensors: z.array(contentTensor).max(64) })).max(8192),
});

/** What a slice consists of. Plain data. */
export type SliceContent = z.infer<typeof sliceContentSchema>;

const storedTensor = tensorPart
  .extend({
    /** ggml's name of the buffer type whose layout the bytes have. */
    layout: word,
    /** Within the block, a multiple of 64. */
    offset: count,
    /** In its layout, padding included. */
    bytes: count,
  })
  .refine(isPart, "is no part of a tensor");

const storedBlock = z.strictObject({
  kind: blockKind,
  layer: count,
  /** From the first block's start, a multiple of 4096. */
  offset: count,
  bytes: count,
  tensors: z.array(storedTensor).max(64),
});

const headerSchema = sliceContentSchema.extend({
  device: z.strictObject({ ggml: word, features: z.array(word).max(256) }),
  checksum: z.literal(checksumAlgorithm),
  blocks: z.array(storedBlock).max(8192),
});

/** What a slice file says of itself. */
export type SliceHeader = z.infer<typeof headerSchema>;
/** A block in a slice file: one contiguous piece of it. */
export type SliceBlock = z.infer<typeof storedBlock>;
/** A tensor, or a part of one, in a slice file. */
export type SliceTensor = z.infer<typeof storedTensor>;

/** Reads a header by `read`, which gives fewer bytes at the file's end. Throws an error whose message is the reason. */
export async function readHeader(
  read: (offset: number, length: number) => Promise<Uint8Array>,
): Promise<{ header: SliceHeader; encoded: EncodedHeader }> {
  const prelude = Buffer.from(await read(0, preludeBytes));
  if (prelude.length < preludeBytes || !prelude.subarray(0, 8).equals(magic)) throw new Error("it is no slice");
  const version = prelude.readUInt32LE(8);
  if (version !== formatVersion) throw new Error(`it has format ${version}, not ${formatVersion}`);
  const length = prelude.readUInt32LE(12);
  if (length > largestHeader) throw new Error(`its header is to have ${length} bytes`);
  const json = Buffer.from(await read(preludeBytes, length));
  const hash = createHash("sha256").update(json).digest();
  if (json.length !== length || !hash.equals(prelude.subarray(16, 48))) throw new Error("its header is damaged");
  const header = parsedHeader(json.toString());
  const bytes = Buffer.concat([prelude, json]);
  return { header, encoded: { bytes, hash, ...places(header, bytes.length) } };
}

/** Parses and checks a header's JSON. Throws an error whose message is the reason. */
export function parsedHeader(json: string): SliceHeader {
  const result = headerSchema.safeParse(parsedJson(json));
  if (!result.success) {
    const [issue] = result.error.issues;
    throw new Error(`its header is not valid: ${issue?.path.join(".")}: ${issue?.message}`);
  }
  checkPlaces(result.data);
  return result.data;
}

function parsedJson(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    throw new Error("its header is not JSON");
  }
}

/** Blocks follow on each other, and tensors lie in their block without overlapping. */
function checkPlaces({ blocks }: SliceHeader): void {
  let end = 0;
  for (const [i, block] of blocks.entries()) {
    demand(block.offset % pageBytes === 0 && block.offset >= end, `block ${i} starts at ${block.offset}`);
    end = block.offset + block.bytes;
    demand(Number.isSafeInteger(end + pageBytes), `block ${i} has ${block.bytes} bytes`);
    checkTensors(block, i);
  }
}

function checkTensors(block: SliceBlock, i: number): void {
  let end = 0;
  for (const tensor of block.tensors.toSorted((a, b) => a.offset - b.offset)) {
    demand(tensor.offset % 64 === 0 && tensor.offset >= end, `a tensor of block ${i} starts at ${tensor.offset}`);
    end = tensor.offset + tensor.bytes;
  }
  demand(end <= block.bytes, `a tensor of block ${i} ends at ${end} of ${block.bytes}`);
}

function demand(holds: boolean, reason: string): void {
  if (!holds) throw new Error(`its header is not valid: ${reason}`);
}
