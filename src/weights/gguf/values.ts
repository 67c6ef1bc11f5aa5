import type { Cursor } from "./cursor.ts";
import type { GgufArray, GgufValue } from "./model.ts";
import { printableName } from "./printable.ts";

/** A metadata type of fixed size. */
interface Scalar {
  readonly bytes: number;
  read(view: DataView, at: number): number | bigint;
  /** The bytes are little-endian, like every machine that Node.js and ggml's prebuilt libraries share. */
  array(bytes: Uint8Array, count: number): GgufArray;
}

type TypedArray = Exclude<GgufArray, unknown[]>;

function scalar(
  bytes: number,
  read: Scalar["read"],
  Type: new (buffer: ArrayBuffer, offset: number, length: number) => TypedArray,
): Scalar {
  return { bytes, read, array: (raw, count) => new Type(raw.buffer as ArrayBuffer, raw.byteOffset, count) };
}

const boolId = 7;
const stringId = 8;
const arrayId = 9;
const deepestArray = 4;

/** Memory that one object takes beyond its bytes in the file: upper estimates for V8, checked by measurement. */
const overhead = { string: 32, boolean: 8, array: 640 };

/** `enum gguf_type` of gguf.h, without its variable-length types and bool. */
const scalars = new Map<number, Scalar>([
  [0, scalar(1, (view, at) => view.getUint8(at), Uint8Array)],
  [1, scalar(1, (view, at) => view.getInt8(at), Int8Array)],
  [2, scalar(2, (view, at) => view.getUint16(at, true), Uint16Array)],
  [3, scalar(2, (view, at) => view.getInt16(at, true), Int16Array)],
  [4, scalar(4, (view, at) => view.getUint32(at, true), Uint32Array)],
  [5, scalar(4, (view, at) => view.getInt32(at, true), Int32Array)],
  [6, scalar(4, (view, at) => view.getFloat32(at, true), Float32Array)],
  [10, scalar(8, (view, at) => view.getBigUint64(at, true), BigUint64Array)],
  [11, scalar(8, (view, at) => view.getBigInt64(at, true), BigInt64Array)],
  [12, scalar(8, (view, at) => view.getFloat64(at, true), Float64Array)],
]);

/** Reads the type number and the value of the metadata entry `key`. Throws `GGUF_INVALID`. */
export async function readValue(cursor: Cursor, key: string): Promise<GgufValue> {
  const what = `the value of ${printableName(key)}`;
  await cursor.need(4, what);
  const start = cursor.offset;
  const type = cursor.uint32();
  if (type === stringId) return cursor.string(what);
  if (type === arrayId) return readArray(cursor, what, 1);
  if (type === boolId) return readBoolean(cursor, what);
  return readScalar(cursor, knownScalar(cursor, type, what, start), what);
}

async function readScalar(cursor: Cursor, { bytes, read }: Scalar, what: string): Promise<number | bigint> {
  await cursor.need(bytes, what);
  const value = cursor.value(bytes, read);
  return Number.isSafeInteger(Number(value)) ? Number(value) : value;
}

async function readBoolean(cursor: Cursor, what: string): Promise<boolean> {
  await cursor.need(1, what);
  const start = cursor.offset;
  const value = cursor.uint8();
  if (value > 1) throw cursor.invalid(`${what} is a boolean, but ${value} is neither 0 nor 1`, start);
  return value === 1;
}

async function readArray(cursor: Cursor, what: string, depth: number): Promise<GgufArray> {
  if (depth > deepestArray) throw cursor.invalid(`${what} nests arrays deeper than ${deepestArray}`);
  cursor.charge(overhead.array);
  await cursor.need(12, what);
  const start = cursor.offset;
  const type = cursor.uint32();
  const count = cursor.size(`the length of ${what}`);
  if (type === stringId) return readStrings(cursor, count, what);
  if (type === arrayId) return readArrays(cursor, count, what, depth + 1);
  if (type === boolId) return readBooleans(cursor, count, what);
  const { bytes, array } = knownScalar(cursor, type, what, start);
  cursor.expect(count, bytes, what);
  return array(await cursor.bytes(count * bytes, what), count);
}

async function readStrings(cursor: Cursor, count: number, what: string): Promise<string[]> {
  cursor.expect(count, 8, what);
  cursor.charge(count * overhead.string);
  const strings = new Array<string>(count);
  for (let i = 0; i < count; i++) strings[i] = cursor.stringAtHand() ?? (await cursor.string(what));
  return strings;
}

async function readArrays(cursor: Cursor, count: number, what: string, depth: number): Promise<GgufArray[]> {
  cursor.expect(count, 12, what);
  const arrays: GgufArray[] = [];
  for (let i = 0; i < count; i++) arrays.push(await readArray(cursor, what, depth));
  return arrays;
}

async function readBooleans(cursor: Cursor, count: number, what: string): Promise<boolean[]> {
  cursor.expect(count, 1, what);
  cursor.charge(count * overhead.boolean);
  const start = cursor.offset;
  const bytes = await cursor.bytes(count, what);
  const wrong = bytes.findIndex((byte) => byte > 1);
  if (wrong !== -1) throw cursor.invalid(`${what} holds ${bytes[wrong]} for a boolean`, start + wrong);
  const booleans = new Array<boolean>(count);
  for (let i = 0; i < count; i++) booleans[i] = bytes[i] === 1;
  return booleans;
}

function knownScalar(cursor: Cursor, type: number, what: string, offset: number): Scalar {
  const known = scalars.get(type);
  if (!known) throw cursor.invalid(`${what} has the unknown type ${type}`, offset);
  return known;
}
