/**
 * What goes over a link: a header of 16 bytes, a payload, and a tag where the link is encrypted. Little-endian.
 *
 * | byte | field |
 * | --- | --- |
 * | 0 | `STL`, and the version of the format as a byte |
 * | 4 | type |
 * | 5 | flags, all zero in this version |
 * | 6 | sequence number, 48 bits, counted per direction from 0 |
 * | 12 | bytes of the payload |
 */
export const headerBytes = 16;

/** What a frame carries. Links begin with one frame each of `hello`, `accept` and `confirm`. */
export const frameType = { data: 1, lost: 2, hello: 3, accept: 4, confirm: 5 } as const;

/** A number of `frameType`. */
export type FrameType = (typeof frameType)[keyof typeof frameType];

/** Bytes of the payload of a `lost` frame: the rank, as u32, that the sender gave up on. */
export const lostBytes = 4;

const magicAndVersion = 0x01_4c_54_53;
const twoTo32 = 2 ** 32;

/** A frame that must not be: the link that it came on is of no more use. */
export class FrameError extends Error {
  override name = "FrameError";
}

/** Writes a header to the first 16 bytes of `view`. */
export function writeHeader(view: DataView, type: FrameType, sequence: number, length: number): void {
  view.setUint32(0, magicAndVersion, true);
  view.setUint8(4, type);
  view.setUint8(5, 0);
  view.setUint32(6, sequence, true);
  view.setUint16(10, Math.floor(sequence / twoTo32), true);
  view.setUint32(12, length, true);
}

/**
 * Checks the header of the frame with number `sequence`: data of exactly `expected` bytes, or a `lost` frame.
 * Returns the bytes of its payload. Throws `FrameError`.
 */
export function checkHeader(view: DataView, sequence: number, expected: number): number {
  if (view.getUint32(0, true) !== magicAndVersion) throw new FrameError("a frame has another magic or version");
  const type = view.getUint8(4);
  if (type !== frameType.data && type !== frameType.lost) throw new FrameError(`a frame has the type ${type}`);
  if (view.getUint8(5) !== 0) throw new FrameError("a frame has unknown flags");
  checkSequence(view, sequence);
  const length = view.getUint32(12, true);
  const due = type === frameType.data ? expected : lostBytes;
  if (length !== due) throw new FrameError(`a frame has ${length} bytes where ${due} were due`);
  return length;
}

function checkSequence(view: DataView, sequence: number): void {
  const found = view.getUint32(6, true) + view.getUint16(10, true) * twoTo32;
  if (found === sequence) return;
  throw new FrameError(`frame ${found} came where frame ${sequence} was due`);
}

/** The type in a header that has been checked. */
export function typeOf(view: DataView): FrameType {
  return view.getUint8(4) as FrameType;
}
