import { createHash } from "node:crypto";

/**
 * Algorithm of the blocks' checksums, cut to 32 bytes. BLAKE2b needs no instructions of its own to be fast, which SHA-256
 * does: it is within a few percent of it where a processor has them, and several times as fast on those that have not.
 */
export const checksumAlgorithm = "blake2b512";
/** Bytes of a checksum. */
export const checksumBytes = 32;

/** The checksum of a block: over the stored bytes of its tensors in their order, without what lies between them. */
export class BlockChecksum {
  readonly #hash = createHash(checksumAlgorithm);

  update(bytes: Uint8Array): void {
    this.#hash.update(bytes);
  }

  digest(): Uint8Array {
    return this.#hash.digest().subarray(0, checksumBytes);
  }
}
