import { createHash } from "node:crypto";
import type { SliceHeader } from "./sliceHeader.ts";

// A slice file: prelude and header as JSON, padded to a page; a journal of one record per block, padded to a page; then
// the blocks, each from a page's border on.

/** Blocks start on multiples of it, as direct I/O wants. */
export const pageBytes = 4096;
/** Version of the file format. Files of any other are fetched anew. */
export const formatVersion = 1;
/**
 * Algorithm of the blocks' checksums, cut to 32 bytes. BLAKE2b needs no instructions of its own to be fast, which SHA-256
 * does: it is within a few percent of it where a processor has them, and several times as fast on those that have not.
 */
export const checksumAlgorithm = "blake2b512";
/** Bytes of a checksum. */
export const checksumBytes = 32;

/** What a slice file starts with. */
export const magic = Buffer.from("STLSLICE", "latin1");
/** Bytes before the JSON: magic, version, length and SHA-256 of the JSON. */
export const preludeBytes = 48;

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

/** Rounds up to a multiple of `step`. */
export function roundUp(value: number, step: number): number {
  return Math.ceil(value / step) * step;
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

/** Where the parts of a file are, after a prelude and header of so many bytes. */
export function places(header: SliceHeader, bytes: number) {
  const journalOffset = roundUp(bytes, pageBytes);
  const dataOffset = journalOffset + roundUp(header.blocks.length * recordBytes, pageBytes);
  const end = header.blocks.reduce((most, block) => Math.max(most, block.offset + block.bytes), 0);
  return { journalOffset, dataOffset, fileBytes: dataOffset + roundUp(end, pageBytes) };
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
