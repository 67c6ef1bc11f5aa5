import type { CellMove } from "../engine/rankCommand.ts";

/** A prefix that every rank keeps a copy of. */
export interface StoredPrefix {
  readonly key: number;
  readonly tokens: readonly number[];
}

/** Knows the copies of prefixes beside the KV cache, least recently used first. The ranks hold their cells. */
export class PrefixStore {
  readonly #capacity: number;
  readonly #entries = new Map<number, StoredPrefix>();
  #nextKey = 0;

  /** @param capacity - tokens that all copies together may have */
  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  get entries(): Iterable<StoredPrefix> {
    return this.#entries.values();
  }

  /** Tokens of all copies. */
  get size(): number {
    return [...this.#entries.values()].reduce((sum, { tokens }) => sum + tokens.length, 0);
  }

  /** Takes up copies that the ranks have already, least recently used first, in place of all others. */
  adopt(prefixes: readonly StoredPrefix[]): void {
    this.#entries.clear();
    for (const prefix of prefixes) this.#entries.set(prefix.key, prefix);
    this.#nextKey = Math.max(-1, ...this.#entries.keys()) + 1;
  }

  /** Says that a copy was of use. */
  touch(key: number): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
  }

  /**
   * Takes up what a slot holds, and drops what it takes the place of: prefixes of it, and the least recently used ones.
   *
   * @param inUse - a copy that must stay
   * @returns what the ranks have to do: nothing where it is there already, or too long
   */
  save(slot: number, tokens: readonly number[], inUse?: number): CellMove[] {
    if (tokens.length > this.#capacity || this.#holds(tokens)) return [];
    const dropped = this.#makeRoom(tokens, inUse);
    if (dropped === undefined) return [];
    for (const key of dropped) this.#entries.delete(key);
    const key = this.#nextKey++;
    this.#entries.set(key, { key, tokens: [...tokens] });
    const drops = dropped.map((old): CellMove => ({ move: "drop", key: old }));
    return [...drops, { move: "save", slot, key, cells: tokens.length }];
  }

  /** Forgets everything. */
  clear(): void {
    this.#entries.clear();
  }

  #holds(tokens: readonly number[]): boolean {
    return [...this.#entries.values()].some((entry) => commonLength(entry.tokens, tokens) === tokens.length);
  }

  /** Which copies to drop for another, or undefined where that is not enough. */
  #makeRoom(tokens: readonly number[], inUse: number | undefined): number[] | undefined {
    const entries = [...this.#entries.values()].filter(({ key }) => key !== inUse);
    const covered = entries.filter((entry) => commonLength(entry.tokens, tokens) === entry.tokens.length);
    const others = entries.filter((entry) => !covered.includes(entry));
    const dropped: number[] = [];
    let free = this.#capacity - this.size;
    for (const [i, { key, tokens: old }] of [...covered, ...others].entries()) {
      if (i >= covered.length && free >= tokens.length) break;
      dropped.push(key);
      free += old.length;
    }
    return free >= tokens.length ? dropped : undefined;
  }
}

/** How many tokens two sequences begin with together. */
export function commonLength(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const most = Math.min(a.length, b.length);
  let length = 0;
  while (length < most && a[length] === b[length]) length++;
  return length;
}
