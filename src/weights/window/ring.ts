/** One passing of a block through the ring. Visits are numbered from 0 on; blocks come in turns. */
export interface Visit {
  /** Index of the block among those that are streamed. */
  readonly block: number;
  /** How often all blocks have passed before. */
  readonly lap: number;
  /** Where the block lies in the ring. */
  readonly offset: number;
  /** How many visits must have ended before its room is free. */
  readonly freed: number;
}

/**
 * Where blocks of differing size lie in a ring, one visit after the other. A block lies in one piece: where what is left
 * up to the ring's end is too little, it starts at the beginning. Visits end in their order. Everything follows from the
 * sizes and the first block alone, so threads that know these agree without talking.
 */
export class RingCursor {
  readonly #sizes: readonly number[];
  readonly #ringBytes: number;
  readonly #first: number;
  /** Starts of the visits that may still be in the ring, on an endless tape that the ring is wound from. */
  readonly #starts: number[] = [];
  #oldest = 0;
  #end = 0;
  #next = 0;

  /** @param first - index of the block whose visit is number 0 */
  constructor(sizes: readonly number[], ringBytes: number, first = 0) {
    const largest = Math.max(...sizes);
    if (largest > ringBytes) throw new RangeError(`a block of ${largest} bytes does not fit a ring of ${ringBytes}`);
    this.#sizes = sizes;
    this.#ringBytes = ringBytes;
    this.#first = first;
  }

  /** The next visit. */
  next(): Visit {
    const visit = this.#next++;
    const turn = this.#first + visit;
    const block = turn % this.#sizes.length;
    const size = this.#sizes[block]!;
    const start = this.#placed(size);
    this.#starts.push(start);
    this.#end = start + size;
    return {
      block,
      lap: Math.floor(visit / this.#sizes.length),
      offset: start % this.#ringBytes,
      freed: this.#freed(visit),
    };
  }

  /** Another cursor at the same place. */
  copy(): RingCursor {
    const copy = new RingCursor(this.#sizes, this.#ringBytes, this.#first);
    copy.#starts.push(...this.#starts);
    copy.#oldest = this.#oldest;
    copy.#end = this.#end;
    copy.#next = this.#next;
    return copy;
  }

  #placed(size: number): number {
    const left = this.#ringBytes - (this.#end % this.#ringBytes);
    return size <= left ? this.#end : this.#end + left;
  }

  /** A block is in the ring once at most. */
  #freed(visit: number): number {
    while (this.#oldest < visit && this.#starts[0]! < this.#end - this.#ringBytes) this.#forget();
    while (visit - this.#oldest >= this.#sizes.length) this.#forget();
    return this.#oldest;
  }

  #forget(): void {
    this.#starts.shift();
    this.#oldest++;
  }
}
