/** Numbers that look random and are the same for the same seed. */
export class Random {
  #state;

  /** @param {number} seed */
  constructor(seed) {
    this.#state = seed >>> 0;
  }

  /** A whole number from 0 to below `limit`. @param {number} limit */
  below(limit) {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * limit);
  }

  /** One of them. @template T @param {readonly T[]} all @returns {T} */
  of(all) {
    return /** @type {T} */ (all[this.below(all.length)]);
  }

  /** So many bytes. @param {number} count */
  bytes(count) {
    const bytes = Buffer.alloc(count);
    for (let i = 0; i < count; i++) bytes[i] = this.below(256);
    return bytes;
  }

  /** A copy with a byte changed. @param {Uint8Array} bytes */
  flipped(bytes) {
    const copy = Buffer.from(bytes);
    const at = this.below(copy.length);
    copy[at] = (copy[at] ?? 0) ^ (1 + this.below(255));
    return copy;
  }

  /** The beginning of it. @param {Uint8Array} bytes */
  cut(bytes) {
    return Buffer.from(bytes.subarray(0, this.below(bytes.length)));
  }
}
