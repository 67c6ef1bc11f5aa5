import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { BlockChecksum, checksumBytes } from "#stellium/weights/checksum";

const mebibyte = 2 ** 20;

function checksumOf(...pieces: Uint8Array[]): string {
  const checksum = new BlockChecksum();
  for (const piece of pieces) checksum.update(piece);
  return Buffer.from(checksum.digest()).toString("hex");
}

/** Bytes that are not all alike. */
function block(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 31 + (i >> 8)) & 255);
}

describe("the checksum of a block", () => {
  it("has its size, also for no bytes at all", () => {
    expect(checksumOf()).toHaveLength(2 * checksumBytes);
  });

  it("is the same however the bytes are handed over", () => {
    const bytes = block(2 * mebibyte + 12345);
    const whole = checksumOf(bytes);
    fc.assert(
      fc.property(fc.array(fc.nat(bytes.length), { maxLength: 5 }), (cuts) => {
        const borders = [0, ...cuts.sort((a, b) => a - b), bytes.length];
        const pieces = borders.slice(1).map((end, i) => bytes.subarray(borders[i], end));
        expect(checksumOf(...pieces)).toBe(whole);
      }),
      { numRuns: 30 },
    );
  });

  it("is another one where a bit, the length or the order of chunks is", () => {
    const bytes = block(2 * mebibyte + 7);
    const whole = checksumOf(bytes);
    for (const at of [0, mebibyte - 1, mebibyte, bytes.length - 1]) {
      bytes[at]! ^= 16;
      expect(checksumOf(bytes)).not.toBe(whole);
      bytes[at]! ^= 16;
    }
    expect(checksumOf(bytes, new Uint8Array(1))).not.toBe(whole);
    expect(checksumOf(bytes.subarray(mebibyte), bytes.subarray(0, mebibyte))).not.toBe(whole);
    expect(checksumOf(bytes)).toBe(whole);
  });
});
