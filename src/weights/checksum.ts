import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";

/**
 * Algorithm of the blocks' checksums: the SHA-256 of the CRC-32s of each mebibyte. They are to find what a disk or a
 * cable changed, on every first read: processors that have no instructions for hashing mostly have some for a CRC, which
 * takes a third of BLAKE2b's time or less.
 */
export const checksumAlgorithm = "crc32-mib-sha256";
/** Bytes of a checksum. */
export const checksumBytes = 32;

const chunkBytes = 2 ** 20;

/** The checksum of a block: over the stored bytes of its tensors in their order, without what lies between them. */
export class BlockChecksum {
  readonly #hash = createHash("sha256");
  /** Of the chunk at hand, and how many bytes of it there are. */
  #crc = 0;
  #filled = 0;

  update(bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length; ) {
      const piece = bytes.subarray(done, done + chunkBytes - this.#filled);
      this.#crc = crc32(piece, this.#crc);
      this.#filled += piece.length;
      done += piece.length;
      if (this.#filled === chunkBytes) this.#endChunk();
    }
  }

  digest(): Uint8Array {
    if (this.#filled > 0) this.#endChunk();
    return this.#hash.digest();
  }

  #endChunk(): void {
    this.#hash.update(Uint32Array.of(this.#crc, this.#filled));
    this.#crc = 0;
    this.#filled = 0;
  }
}
