/** Views kept at once; passes of more different sizes have theirs made again. */
const keptViews = 16;

/**
 * Views of the first values of some memory: the same one whenever the same count is asked for, because what sums up its
 * values is prepared for it, and because new views count as new memory for the garbage collector.
 */
export class FirstValues<T extends Float32Array | Int32Array> {
  readonly all: T;
  readonly #views = new Map<number, T>();

  constructor(all: T) {
    this.all = all;
  }

  /** The first `count` values. */
  of(count: number): T {
    return this.#views.get(count) ?? this.#view(count);
  }

  #view(count: number): T {
    if (this.#views.size === keptViews) this.#views.clear();
    const view = this.all.subarray(0, count) as T;
    this.#views.set(count, view);
    return view;
  }
}
