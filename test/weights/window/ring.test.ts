import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { RingCursor, type Visit } from "#stellium/weights/window/ring";

const rings = fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 20 }).chain((sizes) =>
  fc.record({
    sizes: fc.constant(sizes),
    ringBytes: fc.integer({ min: Math.max(...sizes), max: 300 }),
    first: fc.integer({ min: 0, max: sizes.length - 1 }),
  }),
);

/** Bytes that are in the ring when `visit` has come into it as early as it may. */
function overlaps(visits: readonly Visit[], visit: number, sizes: readonly number[]): boolean {
  const { block, offset, freed } = visits[visit]!;
  return visits.slice(freed, visit).some((other) => {
    const end = other.offset + sizes[other.block]!;
    return other.offset < offset + sizes[block]! && offset < end;
  });
}

describe("a ring of blocks", () => {
  it("never gives the room of a block that is still in it", () => {
    fc.assert(
      fc.property(rings, ({ sizes, ringBytes, first }) => {
        const cursor = new RingCursor(sizes, ringBytes, first);
        const visits = Array.from({ length: 100 }, () => cursor.next());
        for (const [number, visit] of visits.entries()) {
          expect(visit.block).toBe((first + number) % sizes.length);
          expect(visit.lap).toBe(Math.floor(number / sizes.length));
          expect(visit.offset + sizes[visit.block]!).toBeLessThanOrEqual(ringBytes);
          expect(visit.freed).toBeLessThanOrEqual(number);
          expect(number - visit.freed).toBeLessThan(sizes.length);
          expect(overlaps(visits, number, sizes)).toBe(false);
        }
        for (let i = 1; i < visits.length; i++) expect(visits[i]!.freed).toBeGreaterThanOrEqual(visits[i - 1]!.freed);
      }),
    );
  });

  it("has a block come in as soon as there is room", () => {
    const cursor = new RingCursor([40, 80, 40, 80], 240);
    const visits = Array.from({ length: 8 }, () => cursor.next());
    expect(visits.map(({ offset }) => offset)).toEqual([0, 40, 120, 160, 0, 40, 120, 160]);
    expect(visits.map(({ freed }) => freed)).toEqual([0, 0, 0, 0, 1, 2, 3, 4]);
  });

  it("refuses a ring that a block does not fit", () => {
    expect(() => new RingCursor([10, 20], 19)).toThrow(RangeError);
  });
});
