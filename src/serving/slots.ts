import type { CellMove } from "../engine/rankCommand.ts";
import type { StepRequest } from "../engine/stepRequest.ts";
import { commonLength, PrefixStore, type StoredPrefix } from "./prefixStore.ts";
import type { Task } from "./task.ts";

/** Tokens that are worth copying, or keeping, cells for: fewer are computed as fast. */
const worthwhile = 16;

/** Room for one sequence in the KV cache. */
export class Slot {
  readonly id: number;
  /** Tokens whose keys and values are there, in order. They stay when the task ends, for another to start from. */
  readonly cached: number[] = [];
  task: Task | undefined;
  /** Of its task's tokens, those that were there when it came. */
  reused = 0;
  /** When a task came last, as a count of them. */
  used = 0;

  constructor(id: number) {
    this.id = id;
  }

  /** How many of its task's tokens are not there yet. */
  get pending(): number {
    return this.task === undefined ? 0 : this.task.tokens.length - this.cached.length;
  }

  /** The next tokens of its task as a part of a step. Results are wanted of the last token, or of all. */
  part(task: Task, count: number): StepRequest {
    const position = this.cached.length;
    const tokens = task.tokens.slice(position, position + count);
    const hidden = task.wants === "hidden";
    const last = count === this.pending ? 1 : 0;
    return { slot: this.id, tokens, position, outputs: hidden ? count : last, hidden };
  }
}

/** Where a task goes, and what the ranks have to do before. */
export interface SlotChoice {
  readonly slot: Slot;
  readonly moves: readonly CellMove[];
}

/** The slots of the KV cache, and the copies of what was evicted from them. */
export class SlotTable {
  readonly slots: readonly Slot[];
  readonly #store: PrefixStore;
  #uses = 0;

  /** @param storedCells - cells that copies may have */
  constructor(count: number, storedCells: number) {
    this.slots = Array.from({ length: count }, (_, id) => new Slot(id));
    this.#store = new PrefixStore(storedCells);
  }

  /** Those that have a task, the longest running first. */
  get busy(): Slot[] {
    return this.slots.filter(({ task }) => task !== undefined).sort((a, b) => a.used - b.used);
  }

  get hasIdle(): boolean {
    return this.slots.some(({ task }) => task === undefined);
  }

  /**
   * Gives a task an idle slot: the one that begins with the most of its tokens, if that is worth it and the slot is not
   * another, longer conversation's; else the least recently used one, which gets a copy of what another slot or the store
   * begins with. What a slot loses is stored.
   */
  place(task: Task): SlotChoice {
    // The last token is always taken anew: its logits are wanted. Of hidden states, all are.
    const most = task.wants === "hidden" ? 0 : task.tokens.length - 1;
    const reusable = (tokens: readonly number[]) => Math.min(most, commonLength(tokens, task.tokens));
    const slot = this.#choose(reusable);
    const own = reusable(slot.cached);
    const source = this.#bestSource(slot, reusable);
    const moves: CellMove[] = [];
    const taken = source !== undefined && source.cells >= own + worthwhile ? source : undefined;
    if (slot.cached.length - own >= worthwhile) moves.push(...this.#store.save(slot.id, slot.cached, taken?.key));
    if (taken !== undefined) moves.push(taken.move);
    this.#settle(slot, task, taken?.cells ?? own);
    return { slot, moves };
  }

  /** Takes up what the ranks have in store already, least recently used first. */
  adopt(prefixes: readonly StoredPrefix[]): void {
    this.#store.adopt(prefixes);
  }

  /** Stores what the slots hold, as far as there is room, the most recently used last. Returns what the ranks have to do. */
  storeAll(): CellMove[] {
    const worth = this.slots.filter(({ cached }) => cached.length >= worthwhile).sort((a, b) => a.used - b.used);
    return worth.flatMap(({ id, cached }) => this.#store.save(id, cached));
  }

  /** What is in store, least recently used first. */
  get stored(): readonly StoredPrefix[] {
    return [...this.#store.entries];
  }

  /** Forgets what the cache holds. */
  forget(): void {
    for (const slot of this.slots) slot.cached.length = 0;
    this.#store.clear();
  }

  #choose(reusable: (tokens: readonly number[]) => number): Slot {
    const idle = this.slots.filter(({ task }) => task === undefined);
    const value = (slot: Slot) => {
      const own = reusable(slot.cached);
      return own >= worthwhile && own * 2 >= slot.cached.length ? own : 0;
    };
    return idle.reduce((best, slot) => {
      const better = value(slot) - value(best) || Number(slot.cached.length === 0) - Number(best.cached.length === 0);
      return (better || best.used - slot.used) > 0 ? slot : best;
    });
  }

  /** The longest beginning that another slot or the store has. */
  #bestSource(slot: Slot, reusable: (tokens: readonly number[]) => number) {
    const slots = this.slots
      .filter((other) => other !== slot)
      .map((other) => {
        const cells = reusable(other.cached);
        return { cells, key: undefined, move: { move: "copy", from: other.id, to: slot.id, cells } as CellMove };
      });
    const stored = [...this.#store.entries].map(({ key, tokens }) => {
      const cells = reusable(tokens);
      return { cells, key, move: { move: "restore", slot: slot.id, key, cells } as CellMove };
    });
    return [...slots, ...stored].sort((a, b) => b.cells - a.cells)[0];
  }

  #settle(slot: Slot, task: Task, cells: number): void {
    slot.cached.length = 0;
    for (let i = 0; i < cells; i++) slot.cached.push(task.tokens[i]!);
    slot.task = task;
    slot.reused = cells;
    slot.used = ++this.#uses;
  }
}
