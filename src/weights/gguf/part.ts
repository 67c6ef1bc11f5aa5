import { StelliumError } from "../../errors.ts";
import { rowBytes, type TensorTypeName, tensorTypeName, tensorTypes, typeProblem } from "../../native/tensorTypes.ts";
import type { ByteSource } from "../byteSource.ts";
import { Cursor, type HeaderBudget } from "./cursor.ts";
import type { GgufModel, GgufTensor, GgufValue } from "./model.ts";
import { printableName } from "./printable.ts";
import { readValue } from "./values.ts";

const magic = 0x46554747;
const versions = [2, 3];
const defaultAlignment = 32;
const largestAlignment = 2 ** 20;
/** Lengths in bytes that the format's specification sets. */
const longestKey = 65535;
const longestTensorName = 64;
/** Fewest bytes in the file, and upper estimate of the memory, of a metadata entry and of a tensor's description. */
const entrySize = { file: 14, memory: 300 };
const tensorSize = { file: 33, memory: 1100 };

/** One GGUF file: a whole model, or a part of a split one. */
export interface GgufPart extends Pick<GgufModel, "version" | "metadata" | "tensors"> {
  readonly path: string;
  /** Size of the file. */
  readonly bytes: number;
}

/** A tensor's description before the place of the data section is known. */
type Described = Omit<GgufTensor, "file"> & { readonly describedAt: number };

/**
 * Reads the header of one file, which becomes number `file` of its model. The layout is that of gguf.md in ggml's
 * documentation. Throws `GGUF_INVALID`, and `MODEL_UNSUPPORTED` for a version, byte order or tensor type that is not known.
 *
 * @param headerOnly - whether the file may end before the tensors' data do
 */
export async function readPart(
  source: ByteSource,
  file: number,
  budget: HeaderBudget,
  headerOnly = false,
): Promise<GgufPart> {
  const cursor = new Cursor(source, budget);
  const version = await readVersion(cursor);
  await cursor.need(16, "the counts");
  const tensorCount = readCount(cursor, "tensors", tensorSize);
  const entryCount = readCount(cursor, "metadata entries", entrySize);
  const metadata = await readMetadata(cursor, entryCount);
  const alignment = alignmentOf(cursor, metadata);
  const described = await readTensors(cursor, tensorCount);
  const bytes = headerOnly ? Number.POSITIVE_INFINITY : source.size;
  const tensors = placeTensors(cursor, described, alignment, { file, bytes });
  return { path: source.name, bytes: source.size, version, metadata, tensors };
}

async function readVersion(cursor: Cursor): Promise<number> {
  await cursor.need(8, "the magic number and the version");
  if (cursor.uint32() !== magic) throw cursor.invalid('it does not start with "GGUF"', 0);
  const version = cursor.uint32();
  if (versions.includes(version)) return version;
  // Read in the wrong byte order, a small number has its low half empty.
  const bigEndian = version !== 0 && (version & 0xffff) === 0;
  const reason = bigEndian ? "it is a big-endian GGUF file" : `it is a GGUF file of version ${version}`;
  throw new StelliumError("MODEL_UNSUPPORTED", {
    model: cursor.name,
    reason: `${reason}, and Stellium reads little-endian files of versions ${versions.join(" and ")}`,
  });
}

function readCount(cursor: Cursor, what: string, size: { file: number; memory: number }): number {
  const count = cursor.size(`the number of ${what}`);
  cursor.expect(count, size.file, `the ${count} ${what} it announces`);
  cursor.charge(count * size.memory);
  return count;
}

async function readMetadata(cursor: Cursor, count: number): Promise<Map<string, GgufValue>> {
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < count; i++) {
    const start = cursor.offset;
    const key = await cursor.string("a metadata key", longestKey);
    if (key === "") throw cursor.invalid("a metadata key is empty", start);
    if (metadata.has(key)) throw cursor.invalid(`it has the metadata key ${printableName(key)} twice`, start);
    metadata.set(key, await readValue(cursor, key));
  }
  return metadata;
}

function alignmentOf(cursor: Cursor, metadata: ReadonlyMap<string, GgufValue>): number {
  const alignment = metadata.get("general.alignment") ?? defaultAlignment;
  const valid = typeof alignment === "number" && alignment >= 1 && alignment <= largestAlignment;
  if (valid && Number.isInteger(Math.log2(alignment))) return alignment;
  throw cursor.invalid(`general.alignment is not a power of two up to ${largestAlignment}`);
}

async function readTensors(cursor: Cursor, count: number): Promise<Map<string, Described>> {
  const tensors = new Map<string, Described>();
  for (let i = 0; i < count; i++) {
    const tensor = await readTensor(cursor);
    if (tensors.has(tensor.name))
      throw cursor.invalid(`it has the tensor ${printableName(tensor.name)} twice`, tensor.describedAt);
    tensors.set(tensor.name, tensor);
  }
  return tensors;
}

async function readTensor(cursor: Cursor): Promise<Described> {
  const describedAt = cursor.offset;
  const name = await cursor.string("a tensor's name", longestTensorName);
  if (name === "") throw cursor.invalid("a tensor has no name", describedAt);
  const label = `tensor ${printableName(name)}`;
  const shape = await readShape(cursor, label);
  await cursor.need(12, `the description of ${label}`);
  const type = readType(cursor, label);
  const bytes = bytesOf(cursor, label, type, shape);
  return { name, type, shape, offset: cursor.size(`the offset of ${label}`), bytes, describedAt };
}

async function readShape(cursor: Cursor, label: string): Promise<number[]> {
  await cursor.need(4, `the shape of ${label}`);
  const start = cursor.offset;
  const dimensions = cursor.uint32();
  if (dimensions < 1 || dimensions > 4) throw cursor.invalid(`${label} has ${dimensions} dimensions`, start);
  await cursor.need(8 * dimensions, `the shape of ${label}`);
  const shape = Array.from({ length: dimensions }, () => cursor.size(`a dimension of ${label}`));
  if (shape.includes(0)) throw cursor.invalid(`${label} has an empty dimension`, start);
  if (!Number.isSafeInteger(shape.reduce((product, length) => product * length))) {
    throw cursor.invalid(`${label} has too many elements`, start);
  }
  return shape;
}

function readType(cursor: Cursor, label: string): TensorTypeName {
  const id = cursor.uint32();
  const type = tensorTypeName(id);
  if (type) return type;
  throw new StelliumError("MODEL_UNSUPPORTED", {
    model: cursor.name,
    reason: `${label} has ${typeProblem(id)}`,
  });
}

function bytesOf(cursor: Cursor, label: string, type: TensorTypeName, shape: readonly number[]): number {
  const [row = 0, ...outer] = shape;
  const { blockElements } = tensorTypes[type];
  if (row % blockElements === 0) return outer.reduce((bytes, length) => bytes * length, rowBytes(type, row));
  throw cursor.invalid(`${label} has rows of ${row} elements, no multiple of ${type}'s ${blockElements}`);
}

/** Turns offsets in the data section, which starts at the next multiple of the alignment, into offsets in the file. */
function placeTensors(
  cursor: Cursor,
  described: ReadonlyMap<string, Described>,
  alignment: number,
  { file, bytes: fileBytes }: { file: number; bytes: number },
): Map<string, GgufTensor> {
  const dataStart = Math.ceil(cursor.offset / alignment) * alignment;
  const place = ({ describedAt, offset: relative, ...tensor }: Described): GgufTensor => {
    const offset = dataStart + relative;
    const label = `tensor ${printableName(tensor.name)}`;
    if (relative % alignment) throw cursor.invalid(`${label} is not aligned to ${alignment}`, describedAt);
    if (offset + tensor.bytes <= fileBytes) return { ...tensor, offset, file };
    throw cursor.invalid(`the file ends before the end of ${label}`, describedAt);
  };
  const placed = new Map<string, GgufTensor>();
  for (const tensor of described.values()) placed.set(tensor.name, place(tensor));
  return placed;
}
