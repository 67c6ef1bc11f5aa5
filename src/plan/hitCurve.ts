/**
 * How often what is wanted is among what was used last, for every number of slots at once: by stack distances (Mattson et
 * al., "Evaluation techniques for storage hierarchies", 1970). What was never used before does not count: in the long run
 * there is no first time.
 */
export class HitCurve {
  readonly #units: number;
  /** By unit: when it was used last, -1 before the first time. */
  readonly #last: Int32Array;
  /** A Fenwick tree over times: how many units were used last by then. */
  readonly #tree: Int32Array;
  #now = 0;
  #used = 0;
  /** By how many other units were used since the last time: how often that was. */
  readonly #distances: Float64Array;
  #total = 0;

  /** @param units - things that may be wanted */
  constructor(units: number) {
    this.#units = units;
    this.#last = new Int32Array(units).fill(-1);
    this.#tree = new Int32Array(4 * units + 1);
    this.#distances = new Float64Array(units);
  }

  /** Something was wanted. */
  take(unit: number): void {
    if (this.#now === this.#tree.length - 1) this.#compact();
    const last = this.#last[unit]!;
    if (last < 0) this.#used++;
    else {
      this.#distances[this.#used - this.#usedBy(last)]!++;
      this.#total++;
      this.#mark(last, -1);
    }
    this.#last[unit] = this.#now;
    this.#mark(this.#now++, 1);
  }

  /** Part of what is wanted again that is among the last `slots` units; 1 if nothing was. */
  hitRate(slots: number): number {
    if (this.#total === 0 || slots >= this.#units) return 1;
    const hits = this.#distances.subarray(0, Math.max(0, Math.floor(slots))).reduce((sum, times) => sum + times, 0);
    return hits / this.#total;
  }

  #mark(time: number, by: number): void {
    for (let at = time + 1; at < this.#tree.length; at += at & -at) this.#tree[at]! += by;
  }

  /** Units whose last use was at `time` or before. */
  #usedBy(time: number): number {
    let sum = 0;
    for (let at = time + 1; at > 0; at -= at & -at) sum += this.#tree[at]!;
    return sum;
  }

  /** Counts times from zero again, in the same order. */
  #compact(): void {
    const order = Array.from({ length: this.#units }, (_, unit) => unit).filter((unit) => this.#last[unit]! >= 0);
    order.sort((a, b) => this.#last[a]! - this.#last[b]!);
    this.#tree.fill(0);
    this.#now = 0;
    for (const unit of order) {
      this.#last[unit] = this.#now;
      this.#mark(this.#now++, 1);
    }
  }
}
