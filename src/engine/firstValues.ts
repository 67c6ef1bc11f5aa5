/** Views kept at once; steps of more different sizes have theirs made again. */
const keptViews = 16;

/**
 * Views of the first values of some memory: the same one whenever the same count is asked for, because what sums up its
 * values is prepared for it, and because new views count as new memory for the garbage collector.
 */
export class FirstValues {
  readonly all: Float32Array;
  readonly #views = new Map<number, Float32Array>();

  constructor(all: Float32Array) {
    this.all = all;
  }

  /** The first `count` values. */
  of(count: number): Float32Array {
    return this.#views.get(count) ?? this.#view(count);
  }

  #view(count: number): Float32Array {
    if (this.#views.size === keptViews) this.#views.clear();
    const view = this.all.subarray(0, count);
    this.#views.set(count, view);
    return view;
  }
}
