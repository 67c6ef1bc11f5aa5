import type { RoutingChoice, RoutingFacts } from "../trace/routing.ts";
import { Retention, weightOfUse } from "../weights/pool/retention.ts";

/** At 8 to 20 bytes each; about 36 MB if a layer uses 8 experts. */
const mostUses = 1 << 22;

/**
 * Replays a routing record to find the hit rate of an expert pool of any size. The pool replaces experts as the engine's
 * does (`Retention`). If it has fewer slots than a layer wants experts at once, the others do not stay in memory.
 *
 * Only passes of one token count, and not an expert's first use: first uses vanish in the long run.
 */
export class RoutingReplay {
  /** Experts of all layers. */
  readonly units: number;
  readonly #facts: RoutingFacts;
  /** By layer: its place in the header. */
  readonly #places: ReadonlyMap<number, number>;
  #usesLeft: number;
  /**
   * For each pass: tokens of its first layer, number of choices, choices. For each choice: number of units, and each unit
   * with the number of tokens that chose it.
   */
  readonly #words = new IntegerList();
  /** Where the current pass begins in `#words`, and the places of its first layer and of its last one so far. */
  #start = 0;
  #first = 0;
  #last = Number.POSITIVE_INFINITY;
  /** Hit rates by number of slots. */
  readonly #rates = new Map<number, number>();

  /** @param most - uses to keep; the record's first choice beyond that, and all that follow, are ignored */
  constructor(facts: RoutingFacts, most = mostUses) {
    this.units = facts.layers.length * facts.experts;
    this.#facts = facts;
    this.#places = new Map(facts.layers.map((layer, place) => [layer, place]));
    this.#usesLeft = most;
  }

  /** Adds the next choice of the record. */
  take({ layer, ids }: RoutingChoice): void {
    const { experts, used } = this.#facts;
    const counts = new Map<number, number>();
    for (const id of Array.from(ids)) counts.set(id, (counts.get(id) ?? 0) + 1);
    this.#usesLeft -= counts.size;
    if (this.#usesLeft < 0) return;
    const place = this.#places.get(layer)!;
    this.#enter(place, ids.length / used);
    this.#words.push(counts.size);
    for (const [id, count] of counts) {
      this.#words.push(place * experts + id);
      this.#words.push(count);
    }
    this.#rates.clear();
  }

  /** Hit rate with `slots` slots (rounded), 0 to 1; 1 if no use counts. The first call for each number replays the record. */
  hitRate(slots: number): number {
    const whole = Math.round(slots);
    if (whole >= this.units) return 1;
    const rate = this.#rates.get(whole) ?? this.#replay(whole);
    this.#rates.set(whole, rate);
    return rate;
  }

  /** Begins a choice, and a pass if the layers begin again. Lanes of a divided pass choose one after the other in each layer. */
  #enter(place: number, tokens: number): void {
    if (place < this.#last || this.#places.size === 1) {
      this.#start = this.#words.length;
      this.#first = place;
      this.#words.push(0);
      this.#words.push(0);
    }
    if (place === this.#first) this.#words.add(this.#start, tokens);
    this.#words.add(this.#start + 1, 1);
    this.#last = place;
  }

  #replay(slots: number): number {
    const pool = new ReplayedPool(this.units, slots);
    for (let at = 0; at < this.#words.length; ) at = this.#replayPass(at, pool);
    return pool.hitRate;
  }

  /** Returns where the next pass begins. */
  #replayPass(start: number, pool: ReplayedPool): number {
    const words = this.#words;
    const [tokens, choices] = [words.at(start), words.at(start + 1)];
    let at = start + 2;
    pool.pass(tokens === 1);
    for (let choice = 0; choice < choices; choice++) {
      const end = at + 1 + 2 * words.at(at);
      for (at++; at < end; at += 2) pool.want(words.at(at), weightOfUse(words.at(at + 1), tokens));
      pool.bring();
    }
    return at;
  }
}

/** A simulated pool of experts. */
class ReplayedPool {
  readonly #retention: Retention;
  /** By unit: 1 if it is in memory, and if it was wanted before. */
  readonly #held: Uint8Array;
  readonly #seen: Uint8Array;
  readonly #wanted: number[] = [];
  #free: number;
  #counts = false;
  #uses = 0;
  #hits = 0;

  constructor(units: number, slots: number) {
    this.#retention = new Retention(units);
    this.#held = new Uint8Array(units);
    this.#seen = new Uint8Array(units);
    this.#free = slots;
  }

  /** @param counts - whether the hit rate includes the pass */
  pass(counts: boolean): void {
    this.#retention.pass();
    this.#counts = counts;
  }

  want(unit: number, weight: number): void {
    this.#retention.withdraw(unit);
    this.#retention.use(unit, weight);
    if (this.#counts && this.#seen[unit] === 1) {
      this.#uses++;
      this.#hits += this.#held[unit]!;
    }
    this.#seen[unit] = 1;
    this.#wanted.push(unit);
  }

  /** Brings what is wanted into memory, as far as there is room; then it may make room again. */
  bring(): void {
    for (const unit of this.#wanted) if (this.#held[unit] === 0 && this.#takeSlot()) this.#held[unit] = 1;
    for (const unit of this.#wanted) if (this.#held[unit] === 1) this.#retention.offer(unit);
    this.#wanted.length = 0;
  }

  get hitRate(): number {
    return this.#uses === 0 ? 1 : this.#hits / this.#uses;
  }

  /** Returns false if all slots hold what is wanted. */
  #takeSlot(): boolean {
    if (this.#free > 0) {
      this.#free--;
      return true;
    }
    const { least } = this.#retention;
    if (least < 0) return false;
    this.#retention.withdraw(least);
    this.#held[least] = 0;
    return true;
  }
}

const chunkLength = 1 << 16;

/** A growing list of integers, which takes four bytes for each. */
class IntegerList {
  readonly #chunks: Int32Array[] = [];
  length = 0;

  push(value: number): void {
    if (this.length % chunkLength === 0) this.#chunks.push(new Int32Array(chunkLength));
    this.add(this.length++, value);
  }

  at(index: number): number {
    return this.#chunks[Math.floor(index / chunkLength)]![index % chunkLength]!;
  }

  add(index: number, value: number): void {
    this.#chunks[Math.floor(index / chunkLength)]![index % chunkLength]! += value;
  }
}
