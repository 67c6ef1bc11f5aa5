import { createHash } from "node:crypto";
import { z } from "zod";
import { type TensorTypeName, tensorTypes } from "../native/tensorTypes.ts";
import { checksumAlgorithm, checksumBytes } from "./checksum.ts";
import { pageBytes, roundUp } from "./pages.ts";
import type { StoredTensor, TensorPart } from "./slice.ts";

// A slice file: prelude and header as JSON, padded to a page; a journal of one record per block, padded to a page; then
// the blocks, each from a page's border on.

/** Version of the file format. Files of any other are fetched anew. */
export const formatVersion = 1;

const magic = Buffer.from("STLSLICE", "latin1");
const preludeBytes = 48;
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
/** Of one block, or of all that belongs to none. */
const mostTensors = 8192;
const typeName = z.enum(Object.keys(tensorTypes) as [TensorTypeName, ...TensorTypeName[]]);
const blockKind = z.string().max(32);
/** Each expert of a layer counts as one. */
const mostBlocks = 2 ** 16;

/** See `TensorPart`. */
const partSchema = z.strictObject({
  name: word,
  kind: z.enum(["matrix", "expert", "vector"]),
  type: typeName,
  rows: range,
  columns: range,
  matrixRows: index.min(1).optional(),
});

/** A part of at least one row, of whole quantization blocks and whole matrices. */
function isPart({ kind, type, rows, columns, matrixRows }: TensorPart): boolean {
  const { blockElements } = tensorTypes[type];
  const whole = columns.start % blockElements === 0 && columns.count % blockElements === 0;
  const matrices = matrixRows === undefined || (kind === "matrix" && rows.count % matrixRows === 0);
  return whole && matrices && columns.count > 0 && (kind === "vector" ? rows.count === 1 : rows.count > 0);
}

const contentTensor = partSchema.refine(isPart, "is no part of a tensor");

/** What a slice consists of, whatever device holds it. */
export const sliceContentSchema = z.strictObject({
  model: z.strictObject({ hash: z.string().regex(/^[0-9a-f]{64}$/), name: word }),
  share: z.record(z.string().max(32), range),
  blocks: z
    .array(z.strictObject({ kind: blockKind, layer: count, tensors: z.array(contentTensor).max(mostTensors) }))
    .max(mostBlocks),
});

/** What a slice consists of. Plain data. */
export type SliceContent = z.infer<typeof sliceContentSchema>;

/** See `StoredTensor`. */
const storedTensor = partSchema
  .extend({
    layout: word,
    /** A multiple of 64. */
    offset: count,
    bytes: count,
  })
  .refine(isPart, "is no part of a tensor") satisfies z.ZodType<StoredTensor>;

const storedBlock = z.strictObject({
  kind: blockKind,
  layer: count,
  /** From the first block's start, a multiple of 4096. */
  offset: count,
  bytes: count,
  tensors: z.array(storedTensor).max(mostTensors),
});

const headerSchema = sliceContentSchema.extend({
  device: z.strictObject({ ggml: word, features: z.array(word).max(256) }),
  checksum: z.literal(checksumAlgorithm),
  blocks: z.array(storedBlock).max(mostBlocks),
});

/** What a slice file says of itself. */
export type SliceHeader = z.infer<typeof headerSchema>;
/** A block in a slice file: one contiguous piece of it. */
export type SliceBlock = z.infer<typeof storedBlock>;

/** A header as it lies in a file, and where the other parts are. Offsets in bytes from the file's start. */
export interface EncodedHeader {
  /** Prelude and JSON, without padding. */
  readonly bytes: Buffer;
  /** SHA-256 of the JSON: what binds records of the journal to it. */
  readonly hash: Buffer;
  readonly journalOffset: number;
  /** Where the offsets of blocks count from. */
  readonly dataOffset: number;
  readonly fileBytes: number;
}

/** Encodes a header. */
export function encodeHeader(header: SliceHeader): EncodedHeader {
  const json = Buffer.from(JSON.stringify(header));
  const hash = createHash("sha256").update(json).digest();
  const prelude = Buffer.alloc(preludeBytes);
  magic.copy(prelude);
  prelude.writeUInt32LE(formatVersion, 8);
  prelude.writeUInt32LE(json.length, 12);
  hash.copy(prelude, 16);
  return { bytes: Buffer.concat([prelude, json]), hash, ...places(header, preludeBytes + json.length) };
}

function places(header: SliceHeader, bytes: number) {
  const journalOffset = roundUp(bytes, pageBytes);
  const dataOffset = journalOffset + roundUp(header.blocks.length * recordBytes, pageBytes);
  const end = header.blocks.reduce((most, block) => Math.max(most, block.offset + block.bytes), 0);
  return { journalOffset, dataOffset, fileBytes: dataOffset + roundUp(end, pageBytes) };
}

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

const recordMark = Buffer.from("DONE", "latin1");
/** Bytes of a record: 4 of mark, 4 of index, 8 of length, the checksum, and 16 that check all of these. */
export const recordBytes = 64;

/** The journal's record that a block is complete. It counts for the header with this hash only. */
export function encodeRecord(headerHash: Buffer, index: number, bytes: number, checksum: Uint8Array): Buffer {
  const record = Buffer.alloc(recordBytes);
  recordMark.copy(record);
  record.writeUInt32LE(index, 4);
  record.writeBigUInt64LE(BigInt(bytes), 8);
  record.set(checksum, 16);
  const body = record.subarray(0, 48);
  createHash("sha256").update(headerHash).update(body).digest().copy(record, 48, 0, 16);
  return record;
}

/** The checksum in the journal's record of a block, or undefined where there is no valid one. */
export function recordedChecksum(
  headerHash: Buffer,
  journal: Uint8Array,
  index: number,
  bytes: number,
): Buffer | undefined {
  const record = Buffer.from(journal.subarray(index * recordBytes, (index + 1) * recordBytes));
  if (record.length < recordBytes) return undefined;
  const checksum = record.subarray(16, 16 + checksumBytes);
  return encodeRecord(headerHash, index, bytes, checksum).equals(record) ? checksum : undefined;
}
