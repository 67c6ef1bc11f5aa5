/**
 * The hit rate of an LRU cache for every number of slots, from one pass over its accesses: stack distances (Mattson et al.,
 * "Evaluation techniques for storage hierarchies", 1970). First accesses do not count: they vanish in the long run.
 */
export class HitCurve {
  readonly #units: number;
  /** Time of the last access by unit; -1 before the first. */
  readonly #last: Int32Array;
  /** Fenwick tree over times; 1 at each unit's last access. */
  readonly #tree: Int32Array;
  #now = 0;
  #used = 0;
  /** Number of accesses by stack distance: other units accessed since the last access to the same one. */
  readonly #distances: Float64Array;
  #total = 0;

  /** @param units - number of different things that can be accessed */
  constructor(units: number) {
    this.#units = units;
    this.#last = new Int32Array(units).fill(-1);
    this.#tree = new Int32Array(4 * units + 1);
    this.#distances = new Float64Array(units);
  }

  /** Counts an access. */
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

  /** Hit rate with `slots` slots, 0 to 1; 1 without repeated accesses. */
  hitRate(slots: number): number {
    if (this.#total === 0 || slots >= this.#units) return 1;
    const hits = this.#distances.subarray(0, Math.max(0, Math.floor(slots))).reduce((sum, times) => sum + times, 0);
    return hits / this.#total;
  }

  #mark(time: number, by: number): void {
    for (let at = time + 1; at < this.#tree.length; at += at & -at) this.#tree[at]! += by;
  }

  /** Number of units last accessed at `time` or before. */
  #usedBy(time: number): number {
    let sum = 0;
    for (let at = time + 1; at > 0; at -= at & -at) sum += this.#tree[at]!;
    return sum;
  }

  /** Renumbers times from zero in the same order. */
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
