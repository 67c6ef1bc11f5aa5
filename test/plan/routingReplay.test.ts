import { describe, expect, it } from "vitest";
import { RoutingReplay } from "#stellium/plan/routingReplay";
import type { RoutingChoice, RoutingFacts } from "#stellium/trace/routing";

const layers = [1, 4, 5];
const facts: RoutingFacts = { layers, experts: 10, used: 2 };
const units = layers.length * facts.experts;
type Pass = readonly RoutingChoice[];

/** Numbers from 0 to 1, always the same. */
function randomNumbers(): () => number {
  let state = 7;
  return () => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    return state / 2 ** 31;
  };
}

/** Experts that the first prompt does not use, and the first pass that uses each; one in a pass, so there is never a tie. */
const news: readonly { layer: number; id: number; from: number }[] = [
  { layer: 1, id: 9, from: 20 },
  { layer: 4, id: 9, from: 45 },
  { layer: 5, id: 9, from: 70 },
  { layer: 5, id: 8, from: 90 },
];

/** Experts of a layer that a pass may use. */
function knownIds(layer: number, pass: number): number[] {
  const unknown = news.filter((other) => other.layer === layer && other.from > pass).map(({ id }) => id);
  return [...Array(facts.experts).keys()].filter((id) => !unknown.includes(id));
}

/** A prompt of 200 tokens in which no two experts are chosen equally often, so there is never a tie. */
function promptPass(): Pass {
  return layers.map((layer, place) => {
    const ids = knownIds(layer, 0).flatMap((id) => Array(1 + id * layers.length + place).fill(id));
    return { layer, ids: [...ids, ...Array(400 - ids.length).fill(0)] };
  });
}

/** A token's experts in a layer: mostly favourites, which change from time to time. */
function tokenIds(layer: number, pass: number, random: () => number): number[] {
  const ids = knownIds(layer, pass);
  const chosen = new Set(news.filter((other) => other.layer === layer && other.from === pass).map(({ id }) => id));
  while (chosen.size < facts.used) {
    const favourite = Math.floor(ids.length * random() ** 2);
    chosen.add(ids[(favourite + 3 * Math.floor(pass / 50)) % ids.length]!);
  }
  return [...chosen];
}

/** A prompt, then passes of one token, but of five in pass 60, where the last layer has one as in a prompt. */
function passesOf(count: number): Pass[] {
  const random = randomNumbers();
  const choice = (layer: number, pass: number): RoutingChoice => {
    const tokens = pass === 60 && layer !== layers.at(-1) ? 5 : 1;
    return { layer, ids: Array.from({ length: tokens }, () => tokenIds(layer, pass, random)).flat() };
  };
  const others = Array.from({ length: count }, (_, i) => layers.map((layer) => choice(layer, i + 1)));
  return [promptPass(), ...others];
}

/** A pool that looks at every use again for each replacement. */
class SimulatedPool {
  readonly #slots: number;
  readonly #held = new Set<number>();
  readonly #uses: { readonly unit: number; readonly pass: number; readonly weight: number }[] = [];
  hits = 0;
  total = 0;

  constructor(slots: number) {
    this.#slots = slots;
  }

  /** @param units - one for each token and expert */
  choose(units: readonly number[], pass: number, tokens: number): void {
    const wanted = [...new Set(units)];
    if (tokens === 1) this.#count(wanted);
    for (const unit of units) {
      const weight = tokens > 23 ? 16 / Math.log(2) / tokens : 1;
      this.#uses.push({ unit, pass, weight });
    }
    for (const unit of wanted.filter((missing) => !this.#held.has(missing))) {
      if (this.#held.size === this.#slots) this.#makeRoom(wanted, pass);
      if (this.#held.size < this.#slots) this.#held.add(unit);
    }
  }

  #count(wanted: readonly number[]): void {
    const again = wanted.filter((unit) => this.#uses.some((use) => use.unit === unit));
    this.total += again.length;
    this.hits += again.filter((unit) => this.#held.has(unit)).length;
  }

  /** Fails if two units count the same: which of them goes is not defined. */
  #makeRoom(wanted: readonly number[], pass: number): void {
    const others = [...this.#held].filter((other) => !wanted.includes(other));
    if (others.length === 0) return;
    const counts = others.map((other) => this.#countOf(other, pass));
    const least = Math.min(...counts);
    expect(counts.filter((count) => count < least * (1 + 1e-9))).toHaveLength(1);
    this.#held.delete(others[counts.indexOf(least)]!);
  }

  #countOf(unit: number, now: number): number {
    const own = this.#uses.filter((use) => use.unit === unit);
    return own.reduce((sum, { pass, weight }) => sum + weight * 2 ** ((pass - now) / 16), 0);
  }
}

function simulated(passes: readonly Pass[], slots: number): number {
  const pool = new SimulatedPool(slots);
  for (const [pass, choices] of passes.entries()) {
    const tokens = choices[0]!.ids.length / facts.used;
    for (const { layer, ids } of choices) {
      const units = Array.from(ids, (id) => layers.indexOf(layer) * facts.experts + id);
      pool.choose(units, pass, tokens);
    }
  }
  return pool.hits / pool.total;
}

function replayOf(passes: readonly Pass[], most?: number): RoutingReplay {
  const replay = new RoutingReplay(facts, most);
  for (const choice of passes.flat()) replay.take(choice);
  return replay;
}

describe("a replay of a routing record", () => {
  const passes = passesOf(150);
  const replay = replayOf(passes);

  it.each([1, 2, 3, 5, 8, 13, 20, 29])("finds with %i slots what a simulated pool finds", (slots) => {
    const expected = simulated(passes, slots);
    expect(replay.hitRate(slots)).toBeCloseTo(expected, 12);
    if (slots > 2) expect(expected).toBeGreaterThan(0.02);
    expect(expected).toBeLessThan(1);
  });

  it("finds nothing without slots, and all if each expert has one", () => {
    expect([replay.hitRate(0), replay.hitRate(units), replay.hitRate(2 * units)]).toEqual([0, 1, 1]);
  });

  it("takes the nearest number of slots", () => {
    expect(replay.hitRate(13 - 1e-9)).toBe(replay.hitRate(13));
    expect(replay.hitRate(13.4)).toBe(replay.hitRate(13));
  });

  it("counts no miss if each expert is used only once, or none in a pass of one token", () => {
    const once = layers.map((layer) => ({ layer, ids: [0, 1] }));
    const prompts = [0, 1, 2].map(() => layers.map((layer) => ({ layer, ids: [0, 1, 2, 3] })));
    expect([replayOf([]), replayOf([once]), replayOf(prompts)].map((empty) => empty.hitRate(1))).toEqual([1, 1, 1]);
  });

  it("replays again after more choices", () => {
    const growing = replayOf(passes.slice(0, 50));
    expect(growing.hitRate(8)).toBeCloseTo(simulated(passes.slice(0, 50), 8), 12);
    for (const choice of passes.slice(50).flat()) growing.take(choice);
    expect(growing.hitRate(8)).toBe(replay.hitRate(8));
  });

  it("finds the experts that every token uses, though memory holds less than one token needs", () => {
    const tokens = Array.from({ length: 40 }, (_, pass) =>
      layers.map((layer) => ({ layer, ids: [0, 1 + (pass % 9)] })),
    );
    // Uses of expert 0 are 117 of the 210 that count. With 4 slots for 6 experts, an LRU pool would find none.
    expect(replayOf(tokens).hitRate(4)).toBeGreaterThan(0.5);
    expect(replayOf(tokens).hitRate(4)).toBeLessThanOrEqual(117 / 210);
  });

  it("takes choices of a layer that follow each other for lanes of one pass", () => {
    const half = (ids: ArrayLike<number>, from: number, to: number) => Array.from(ids).slice(from, to);
    const divided = passes.map((pass) =>
      pass.flatMap(({ layer, ids }) => {
        const middle = 2 * Math.floor(ids.length / 4);
        const pieces = middle === 0 ? [ids] : [half(ids, 0, middle), half(ids, middle, ids.length)];
        return pieces.map((piece) => ({ layer, ids: piece }));
      }),
    );
    expect(divided.flat().length).toBeGreaterThan(passes.flat().length);
    // With as many slots as these it does not matter in which order a prompt's experts are read.
    const rates = (of: RoutingReplay) => [20, 23, 26, 29].map((slots) => of.hitRate(slots));
    expect(rates(replayOf(divided))).toEqual(rates(replay));
  });

  it("weighs the uses of a prompt by the tokens of all its lanes", () => {
    const lanes = new RoutingReplay({ layers: [0, 1], experts: 4, used: 1 });
    const take = (layer: number, ...ids: number[]) => lanes.take({ layer, ids });
    // 50 of 800 tokens count less than four tokens later on, 50 of 400 would count more.
    take(0, ...Array(50).fill(0), ...Array(350).fill(3));
    take(0, ...Array(400).fill(3));
    take(1, ...Array(400).fill(0));
    take(1, ...Array(400).fill(0));
    for (const id of [1, 1, 1, 1, 2, 1, 2, 0]) {
      take(0, id);
      take(1, 0);
    }
    // 2 replaces 0, not 1, so only the last token misses what was used before.
    expect(lanes.hitRate(4)).toBe(13 / 14);
  });

  it("takes each choice of a model with one layer of experts for a pass", () => {
    const single = { layers: [3], experts: 4, used: 1 };
    const one = new RoutingReplay(single);
    // 60 uses that are 40 passes old count less than 40 recent ones, so expert 0 makes room for 2, and 1 stays.
    const ids = [...Array(60).fill(0), ...Array(40).fill(1), 2, 1, 2, 0];
    for (const id of ids) one.take({ layer: 3, ids: [id] });
    expect(one.hitRate(2)).toBe(100 / 101);
  });

  it("ignores the first choice beyond the uses it keeps, and all that follow", () => {
    const first = passes.slice(0, 40);
    const most = first.flat().reduce((sum, { ids }) => sum + new Set(Array.from(ids)).size, 0);
    expect(replayOf(passes, most + 1).hitRate(8)).toBe(replayOf(first).hitRate(8));
    expect(replayOf(first).hitRate(8)).not.toBe(replay.hitRate(8));
  });
});
