import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { StelliumError } from "#stellium/errors";
import { poolCell, poolMemory, queuePlace, slotPhase, slotState } from "#stellium/weights/pool/poolMemory";
import { SlotPool } from "#stellium/weights/pool/slotPool";
import { leastPoolBytes, planSlots, type SlotUnit } from "#stellium/weights/pool/slots";
import { putFailure } from "#stellium/weights/window/readFailure";
import { windowMemory } from "#stellium/weights/window/windowMemory";

const unit = (room: number, shape = "alike"): SlotUnit => ({ room, shape });

describe("slots for experts", () => {
  it("are as many as there are experts if there is room", () => {
    const plan = planSlots([unit(8), unit(8), unit(8)], 24, 2);
    expect(plan).toMatchObject({ bytes: 24, resident: true, classes: [{ units: [0, 1, 2], slotBytes: 8, slots: 3 }] });
    expect(planSlots([unit(8)], undefined, 2)).toMatchObject({ resident: true, bytes: 8 });
    expect(planSlots([], 0, 2)).toMatchObject({ resident: true, bytes: 0, classes: [] });
  });

  it("are as large a part of each kind, one after the other", () => {
    const units = [unit(8, "a"), unit(4, "b"), unit(8, "a"), unit(4, "b"), unit(8, "a"), unit(8, "a")];
    const plan = planSlots(units, 20, 1);
    expect(plan.classes).toEqual([
      { units: [0, 2, 4, 5], slotBytes: 8, slots: 2, offset: 0 },
      { units: [1, 3], slotBytes: 4, slots: 1, offset: 16 },
    ]);
    expect(plan).toMatchObject({ bytes: 20, resident: false });
  });

  it("have room for the largest of their kind, and are never fewer than one token needs", () => {
    const units = [unit(8), unit(12), unit(8), unit(8)];
    expect(planSlots(units, 0, 2).classes).toMatchObject([{ slotBytes: 12, slots: 2 }]);
    expect(leastPoolBytes(units, 2)).toBe(24);
    expect(leastPoolBytes(units, 9)).toBe(48);
  });

  it("never take more than the budget, unless the least do", () => {
    const units = fc.array(fc.tuple(fc.integer({ min: 1, max: 50 }), fc.constantFrom("a", "b", "c")), {
      maxLength: 40,
    });
    const cases = [units, fc.integer({ min: 0, max: 2000 }), fc.integer({ min: 1, max: 8 })] as const;
    fc.assert(
      fc.property(...cases, (rooms, budget, least) => {
        const all = rooms.map(([room, shape]) => unit(room, shape));
        const { bytes, classes } = planSlots(all, budget, least);
        expect(classes.flatMap((each) => each.units).sort((a, b) => a - b)).toEqual([...all.keys()]);
        const most = classes.reduce((sum, each) => sum + each.slotBytes, 0) * least;
        expect(bytes).toBeLessThanOrEqual(budget + most);
      }),
    );
  });
});

const piecesOfUnit = 3;

/** A pool of so many slots for units of one kind, whose reads end when the test says so. */
class Bench {
  readonly readers = windowMemory(1);
  readonly memory;
  readonly pool: SlotPool;
  /** Units that were read, each as its last piece was. */
  readonly reads: number[] = [];
  readonly placed = new Map<number, bigint>();

  constructor(units: number, slots: number) {
    const { classes } = planSlots(Array<SlotUnit>(units).fill(unit(16)), slots * 16, 1);
    this.memory = poolMemory(slots, piecesOfUnit);
    this.pool = new SlotPool({
      ...{ classes, address: 4096n, memory: this.memory, readers: this.readers, path: "a slice" },
      pieces: new Int32Array(units).fill(piecesOfUnit),
      place: (which, address) => void this.placed.set(which, address),
      tensor: () => 0n,
      stack: () => undefined,
      stopped: () => true,
    });
  }

  /** Begins a block that wants units, each for one token. */
  begin(units: readonly number[], { passes = false, expected = [] as readonly number[] } = {}): void {
    const uses = new Int32Array(units.length).fill(1);
    const expects = { expected: Int32Array.from(expected), expectedCount: expected.length };
    this.pool.begin({ units: Int32Array.from(units), count: units.length, uses, passes, ...expects });
  }

  /** Does the reads that were asked for, as readers do: all, or so many pieces. */
  read(phase: number = slotPhase.ready, most = Number.POSITIVE_INFINITY): void {
    const { cells, queue, states, left } = this.memory;
    for (let done = 0; done < most && cells[poolCell.taken] !== cells[poolCell.asked]; cells[poolCell.taken]! += 1) {
      const [which, slot, , ticket] = queue.subarray(queuePlace(queue, cells[poolCell.taken]!)) as unknown as number[];
      const begun = [slotPhase.waiting, slotPhase.reading].map((each) => slotState(ticket!, each));
      if (!begun.includes(states[slot!]!)) continue;
      done++;
      states[slot!] = slotState(ticket!, slotPhase.reading);
      if (--left[slot!]! > 0) continue;
      states[slot!] = slotState(ticket!, phase);
      this.reads.push(which!);
    }
  }

  /** Has units computed from, in any order. Returns that order. */
  compute(units: readonly number[], how: Parameters<Bench["begin"]>[1] = {}): number[] {
    const told: number[] = [];
    this.begin(units, how);
    for (;;) {
      this.read();
      const next = this.pool.next();
      if (next < 0) return told;
      this.pool.place(next);
      told.push(next);
      this.pool.release(next);
    }
  }
}

const upTo = (count: number) => Array.from({ length: count }, (_, i) => i);

describe("a pool of experts", () => {
  it("tells those in memory first, and reads what is missing once", () => {
    const bench = new Bench(10, 4);
    expect(bench.compute([1, 2]).sort()).toEqual([1, 2]);
    expect(bench.compute([3, 2, 1]).slice(0, 2).sort()).toEqual([1, 2]);
    expect(bench.reads).toEqual([1, 2, 3]);
    expect([bench.pool.hits, bench.pool.misses]).toEqual([2, 3]);
  });

  it("does not wait if it is told not to", () => {
    const bench = new Bench(10, 4);
    bench.compute([1]);
    bench.begin([1, 2]);
    expect(bench.pool.next(false)).toBe(1);
    expect(bench.pool.next(false)).toBe(-1);
    bench.read();
    expect(bench.pool.next(false)).toBe(2);
    expect(bench.pool.next()).toBe(-1);
  });

  it("gives the place of what was used least often", () => {
    const bench = new Bench(10, 3);
    for (const units of [[0], [1], [2], [0], [3], [0], [2], [1]]) {
      bench.pool.pass(1);
      bench.compute(units);
    }
    expect(bench.reads).toEqual([0, 1, 2, 3, 1]);
    expect(bench.placed.get(3)).not.toBe(bench.placed.get(0));
  });

  it("finds what is used often, although it holds less than one token needs", () => {
    const bench = new Bench(40, 5);
    for (let token = 0; token < 50; token++) {
      const others = [3 + ((5 * token) % 37), 3 + ((5 * token + 17) % 37)];
      bench.pool.pass(1);
      for (const units of [[0], [1], [2], others]) bench.compute(units);
    }
    // Of three all but the first uses, some of which may be forgotten again.
    expect(bench.pool.hits).toBeGreaterThanOrEqual(3 * 49 - 6);
  });

  it("takes more experts at once than it has slots, each read once", () => {
    const bench = new Bench(40, 3);
    expect(bench.compute(upTo(40)).sort((a, b) => a - b)).toEqual(upTo(40));
    expect(bench.reads).toEqual(upTo(40));
  });

  it("keeps what it has while more passes through than it can hold", () => {
    const bench = new Bench(60, 20);
    const blocks = upTo(6).map((block) => upTo(10).map((i) => 10 * block + i));
    for (let batch = 0; batch < 4; batch++) {
      const { hits } = bench.pool;
      bench.pool.pass(1);
      for (const block of blocks) expect(bench.compute(block, { passes: true }).sort((a, b) => a - b)).toEqual(block);
      // All are used as often, so that some of the twelve others leave with those that pass through eight slots.
      if (batch > 0) expect(bench.pool.hits - hits).toBeGreaterThanOrEqual(8);
    }
  });

  it("lets a prompt pass through as few slots as one token needs", () => {
    const bench = new Bench(30, 2);
    for (let batch = 0; batch < 2; batch++) expect(bench.compute(upTo(30), { passes: true }).length).toBe(30);
  });

  it("lets no expert go that is wanted and not computed from", () => {
    const bench = new Bench(10, 2);
    bench.compute([0, 1]);
    bench.begin([2, 0, 1]);
    expect(bench.memory.cells[poolCell.asked]).toBe(2 * piecesOfUnit);
    const first = bench.pool.next();
    bench.pool.release(first);
    bench.read();
    expect(bench.reads).toEqual([0, 1, 2]);
    expect([bench.pool.next(), bench.pool.next()].sort()).toEqual([0, 1, 2].filter((each) => each !== first));
  });

  it("goes on after it was stopped: a read that has begun ends before its slot is used again", () => {
    const bench = new Bench(10, 2);
    bench.begin([0, 1]);
    bench.read(slotPhase.ready, 4);
    // `stopped` says so at once.
    expect([bench.pool.next(), bench.pool.next()]).toEqual([0, -1]);
    bench.begin([2, 3]);
    expect(bench.pool.next()).toBe(-1);
    const slot = bench.pool.slotOf(2);
    expect(slot).not.toBe(bench.pool.slotOf(1));
    bench.read();
    expect(bench.reads).toEqual([0, 1, 2]);
    expect(bench.compute([2, 1, 3]).sort()).toEqual([1, 2, 3]);
  });

  it("says why an expert could not be read, and may be asked for it again", () => {
    const bench = new Bench(10, 2);
    bench.begin([5]);
    const values = { path: "a slice", reason: "its block 9 is damaged" };
    putFailure(bench.memory.failure, new StelliumError("SLICE_INVALID", values));
    bench.read(slotPhase.failed);
    expect(() => bench.pool.next()).toThrow("its block 9 is damaged");
    expect(bench.compute([5, 6]).sort()).toEqual([5, 6]);
    expect(bench.reads).toEqual([5, 5, 6]);
  });

  it("reads again what failed while another read said why", () => {
    const bench = new Bench(10, 2);
    bench.begin([5, 6]);
    putFailure(bench.memory.failure, new StelliumError("FILE_UNREADABLE", { path: "a slice", reason: "first" }));
    bench.read(slotPhase.failed);
    expect(() => bench.pool.next()).toThrow("first");
    expect(bench.compute([5, 6]).sort()).toEqual([5, 6]);
    expect(bench.reads.sort()).toEqual([5, 5, 6, 6]);
  });
});

describe("experts that a pool expects", () => {
  it("are read after those that are wanted, and need no read when they are", () => {
    const bench = new Bench(10, 6);
    bench.begin([1, 2], { expected: [3, 4, 1] });
    bench.read();
    expect(bench.reads).toEqual([1, 2, 3, 4]);
    expect(bench.compute([3, 4]).sort()).toEqual([3, 4]);
    expect(bench.reads).toHaveLength(4);
    expect([bench.pool.hits, bench.pool.misses, bench.pool.readAhead]).toEqual([0, 4, 2]);
    expect(bench.pool.bytesRead).toBe(4 * 16);
  });

  it("take no place that what is wanted needs", () => {
    const bench = new Bench(10, 2);
    bench.begin([1, 2, 3], { expected: [4, 5] });
    bench.read();
    expect(bench.reads).toEqual([1, 2]);
    bench.pool.release(bench.pool.next());
    bench.read();
    expect(bench.reads).toEqual([1, 2, 3]);
  });

  it("are not read if that has not begun and something else is wanted", () => {
    const bench = new Bench(10, 6);
    bench.begin([1], { expected: [2, 3, 4] });
    // That which is wanted, and a piece of the next one.
    bench.read(slotPhase.ready, piecesOfUnit + 1);
    expect(bench.compute([3, 5]).sort()).toEqual([3, 5]);
    expect(bench.reads).toEqual([1, 2, 3, 5]);
    // What has begun is counted as soon as it has ended.
    bench.begin([]);
    expect([bench.pool.misses, bench.pool.readAhead, bench.pool.bytesRead]).toEqual([3, 1, 4 * 16]);
  });

  it("stay in memory until then, also from one block to the one after the next", () => {
    const bench = new Bench(10, 3);
    for (const unit of [0, 1, 1, 2, 2]) bench.compute([unit]);
    // 0 counts least, but is expected, so 1 or 2 makes room.
    bench.compute([3], { expected: [0] });
    bench.compute([4], { expected: [0, 5] });
    bench.compute([0], { expected: [5] });
    expect(bench.reads).toEqual([0, 1, 2, 3, 4, 5]);
    expect(bench.compute([5])).toEqual([5]);
    expect(bench.reads).toHaveLength(6);
    // It was expected twice, and is of use.
    expect(bench.pool.readAhead).toBe(1);
  });

  it("are not read any more if they were mostly wrong, and again if they are right", () => {
    const bench = new Bench(400, 8);
    const ahead = (wanted: (i: number) => number) => {
      const { bytesRead } = bench.pool;
      for (let i = 0; i < 300; i++) {
        bench.compute([i], { expected: [i + 50] });
        bench.compute([wanted(i)]);
      }
      return (bench.pool.bytesRead - bytesRead) / 16;
    };
    const wrong = ahead((i) => (i + 200) % 400);
    // Two of each round are wanted, and most guesses are not read.
    expect(wrong).toBeLessThan(2 * 300 + 100);
    const { readAhead } = bench.pool;
    for (let round = 0; round < 10; round++) ahead((i) => i + 50);
    expect(bench.pool.readAhead - readAhead).toBeGreaterThan(1500);
  });

  it("never leave a wanted one without a slot, whatever comes in between", () => {
    const unit = fc.integer({ min: 0, max: 29 });
    const wants = fc.uniqueArray(unit, { minLength: 1, maxLength: 12 });
    // A unit may be guessed several times.
    const guesses = fc.array(unit, { maxLength: 24 });
    const round = fc.record({ wanted: wants, guessed: guesses, pieces: fc.nat(30), stops: fc.boolean() });
    fc.assert(
      fc.property(fc.array(round, { maxLength: 30 }), fc.integer({ min: 1, max: 14 }), (rounds, slots) => {
        const bench = new Bench(30, slots);
        for (const { wanted, guessed, pieces, stops } of rounds) {
          bench.begin(wanted, { expected: guessed });
          bench.read(slotPhase.ready, pieces);
          if (stops) continue;
          const told: number[] = [];
          for (let tries = 0; told.length < wanted.length && tries < 100; tries++) {
            bench.read();
            const next = bench.pool.next();
            if (next < 0) continue;
            told.push(next);
            bench.pool.release(next);
          }
          expect(told.sort((a, b) => a - b)).toEqual(wanted.toSorted((a, b) => a - b));
        }
      }),
    );
  });
});
