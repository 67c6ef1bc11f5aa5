import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { StelliumError } from "#stellium/errors";
import { SlotPool } from "#stellium/weights/pool/expertPool";
import { poolCell, poolMemory, queuePlace, slotState } from "#stellium/weights/pool/poolMemory";
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

/** A pool of so many slots for units of one kind, whose reads end when the test says so. */
class Bench {
  readonly readers = windowMemory(1);
  readonly memory;
  readonly pool: SlotPool;
  readonly reads: number[] = [];
  readonly placed = new Map<number, bigint>();

  constructor(units: number, slots: number) {
    const { classes } = planSlots(Array<SlotUnit>(units).fill(unit(16)), slots * 16, 1);
    this.memory = poolMemory(slots);
    this.pool = new SlotPool({
      ...{ classes, address: 4096n, memory: this.memory, readers: this.readers, path: "a slice" },
      place: (which, address) => void this.placed.set(which, address),
      tensor: () => 0n,
      stopped: () => true,
    });
  }

  /** Does all reads that were asked for. */
  read(state: number = slotState.ready): void {
    const { cells, queue, states } = this.memory;
    while (cells[poolCell.taken] !== cells[poolCell.asked]) {
      const at = queuePlace(queue, cells[poolCell.taken]!);
      this.reads.push(queue[at]!);
      states[queue[at + 1]!] = state;
      cells[poolCell.taken]! += 1;
    }
  }

  /** Has units computed from, in any order. Returns that order. */
  compute(units: readonly number[], passes = false): number[] {
    const told: number[] = [];
    this.pool.begin(Int32Array.from(units), units.length, passes);
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

describe("a pool of experts", () => {
  it("tells those in memory first, and reads what is missing once", () => {
    const bench = new Bench(10, 4);
    expect(bench.compute([1, 2]).sort()).toEqual([1, 2]);
    expect(bench.compute([3, 2, 1]).slice(0, 2).sort()).toEqual([1, 2]);
    expect(bench.reads).toEqual([1, 2, 3]);
    expect([bench.pool.hits, bench.pool.misses]).toEqual([2, 3]);
  });

  it("gives the place of what was used longest ago", () => {
    const bench = new Bench(10, 3);
    for (const units of [[0], [1], [2], [0], [3], [0], [2], [1]]) bench.compute(units);
    expect(bench.reads).toEqual([0, 1, 2, 3, 1]);
    expect(bench.placed.get(3)).not.toBe(bench.placed.get(0));
  });

  it("takes more experts at once than it has slots, each read once", () => {
    const bench = new Bench(40, 3);
    const wanted = Array.from({ length: 40 }, (_, i) => i);
    expect(bench.compute(wanted).sort((a, b) => a - b)).toEqual(wanted);
    expect(bench.reads).toEqual(wanted);
  });

  it("keeps what it has while more passes through than it can hold", () => {
    const bench = new Bench(60, 20);
    const blocks = Array.from({ length: 6 }, (_, block) => Array.from({ length: 10 }, (_, i) => 10 * block + i));
    for (let batch = 0; batch < 4; batch++) {
      const { hits } = bench.pool;
      for (const block of blocks) expect([...bench.compute(block, true)].sort((a, b) => a - b)).toEqual(block);
      // All slots but the eight that the others pass through.
      if (batch > 0) expect(bench.pool.hits - hits).toBe(12);
    }
    // What is written after it takes the places of what passed and was not used again.
    const { hits } = bench.pool;
    bench.compute([58, 8, 9]);
    bench.compute([20, 21, 22, 23, 24, 25, 26]);
    bench.compute([58, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
    expect(bench.pool.hits - hits).toBe(3 + 13);
  });

  it("lets a prompt pass through as few slots as one token needs", () => {
    const bench = new Bench(30, 2);
    const wanted = Array.from({ length: 30 }, (_, i) => i);
    for (let batch = 0; batch < 2; batch++) expect(bench.compute(wanted, true).length).toBe(30);
  });

  it("lets no expert go that is wanted and not computed from", () => {
    const bench = new Bench(10, 2);
    bench.compute([0, 1]);
    bench.pool.begin(Int32Array.from([2, 0, 1]), 3);
    expect(bench.memory.cells[poolCell.asked]).toBe(2);
    const first = bench.pool.next();
    bench.pool.release(first);
    bench.read();
    expect(bench.reads).toEqual([0, 1, 2]);
    expect([bench.pool.next(), bench.pool.next()].sort()).toEqual([0, 1, 2].filter((each) => each !== first));
  });

  it("goes on after it was stopped: a read that nobody waits for ends before its slot is used again", () => {
    const bench = new Bench(10, 2);
    bench.pool.begin(Int32Array.from([0, 1]), 2);
    // `stopped` says so at once, and nothing was read.
    expect(bench.pool.next()).toBe(-1);
    bench.pool.begin(Int32Array.from([2]), 1);
    expect(bench.pool.next()).toBe(-1);
    expect(bench.memory.cells[poolCell.asked]).toBe(2);
    bench.read();
    expect(bench.compute([2, 1]).sort()).toEqual([1, 2]);
    expect(bench.reads).toEqual([0, 1, 2]);
  });

  it("says why an expert could not be read, and may be asked for it again", () => {
    const bench = new Bench(10, 2);
    bench.pool.begin(Int32Array.from([5]), 1);
    const values = { path: "a slice", reason: "its block 9 is damaged" };
    putFailure(bench.memory.failure, new StelliumError("SLICE_INVALID", values));
    bench.read(slotState.failed);
    expect(() => bench.pool.next()).toThrow("its block 9 is damaged");
    expect(bench.compute([5, 6]).sort()).toEqual([5, 6]);
    expect(bench.reads).toEqual([5, 5, 6]);
  });

  it("reads again what failed while another read said why", () => {
    const bench = new Bench(10, 2);
    bench.pool.begin(Int32Array.from([5, 6]), 2);
    putFailure(bench.memory.failure, new StelliumError("FILE_UNREADABLE", { path: "a slice", reason: "first" }));
    bench.read(slotState.failed);
    expect(() => bench.pool.next()).toThrow("first");
    expect(bench.compute([5, 6]).sort()).toEqual([5, 6]);
    expect(bench.reads.sort()).toEqual([5, 5, 6, 6]);
  });
});
