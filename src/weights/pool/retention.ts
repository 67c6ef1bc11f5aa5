/** Passes in which what a use counts is halved. */
export const halfLife = 16;

/** What one use in every pass adds up to in the long run: about 23. */
const steadyCount = halfLife / Math.LN2;

/**
 * Returns how much a use counts in `Retention.use`; 1 in a pass of one token. A pass of any number of tokens counts no more
 * than `steadyCount` passes of one: otherwise an answer would hardly ever replace what a long prompt used most.
 *
 * @param count - number of the pass's tokens that chose the unit
 * @param tokens - number of the pass's tokens
 */
export function weightOfUse(count: number, tokens: number): number {
  return count * Math.min(1, steadyCount / tokens);
}

/**
 * Decides which of the units in memory makes room for another one: that which is used least often, recent uses counting
 * more (LRFU: Lee et al., "A spectrum of policies that subsumes the least recently used and least frequently used
 * policies", 2001). A use counts 1 and half as much after every `halfLife` passes. Units that are not in memory are
 * remembered, too.
 *
 * Replacing the least recently used unit finds nothing if memory holds less than one token uses: each unit has made room by
 * the time that the next token comes to its layer.
 */
export class Retention {
  /** Binary logarithm of what a unit's uses count, times 2 ** (passes / `halfLife`): it changes only if the unit is used. */
  readonly #counts: Float64Array;
  /** Units that may make room: a heap with the one that counts least first. */
  readonly #heap: Int32Array;
  /** By unit: its place in the heap; -1 if it is not there. */
  readonly #places: Int32Array;
  #size = 0;
  #passes = 0;

  /** @param units - number of units, in memory or not */
  constructor(units: number) {
    this.#counts = new Float64Array(units).fill(Number.NEGATIVE_INFINITY);
    this.#heap = new Int32Array(units);
    this.#places = new Int32Array(units).fill(-1);
  }

  /** A pass begins. */
  pass(): void {
    this.#passes++;
  }

  /** A unit is used in this pass. It may not be one of those that may make room. @param count - how much that counts */
  use(unit: number, count = 1): void {
    const added = Math.log2(count) + this.#passes / halfLife;
    const before = this.#counts[unit]!;
    const [larger, smaller] = added > before ? [added, before] : [before, added];
    this.#counts[unit] = larger + Math.log2(1 + 2 ** (smaller - larger));
  }

  /** True if `unit` counts more than `other`. */
  exceeds(unit: number, other: number): boolean {
    return this.#counts[unit]! > this.#counts[other]!;
  }

  /** A unit that is in memory may make room from now on. */
  offer(unit: number): void {
    this.#put(unit, this.#size++);
    this.#rise(unit);
  }

  /** A unit may not make room any more. Returns whether it could before. */
  withdraw(unit: number): boolean {
    const place = this.#places[unit]!;
    if (place < 0) return false;
    this.#places[unit] = -1;
    const last = this.#heap[--this.#size]!;
    if (last === unit) return true;
    this.#put(last, place);
    this.#rise(last);
    this.#sink(last);
    return true;
  }

  /** The unit that is to make room first; -1 if none may. */
  get least(): number {
    return this.#size === 0 ? -1 : this.#heap[0]!;
  }

  #put(unit: number, place: number): void {
    this.#heap[place] = unit;
    this.#places[unit] = place;
  }

  #rise(unit: number): void {
    for (let place = this.#places[unit]!; place > 0; ) {
      const above = (place - 1) >> 1;
      const parent = this.#heap[above]!;
      if (!this.exceeds(parent, unit)) return;
      this.#put(parent, place);
      this.#put(unit, above);
      place = above;
    }
  }

  #sink(unit: number): void {
    for (let place = this.#places[unit]!; 2 * place + 1 < this.#size; ) {
      let below = 2 * place + 1;
      if (below + 1 < this.#size && this.exceeds(this.#heap[below]!, this.#heap[below + 1]!)) below++;
      const child = this.#heap[below]!;
      if (!this.exceeds(unit, child)) return;
      this.#put(child, place);
      this.#put(unit, below);
      place = below;
    }
  }
}
