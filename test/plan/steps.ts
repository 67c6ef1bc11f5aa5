import fc from "fast-check";
import type { PassTiming, TimedDevice } from "#stellium/plan/passTiming";

/** Blocks that are all alike: a step of one device. Its disk reads a byte in a millisecond. */
export function uniformStep(
  blocks: number,
  computeMs: number,
  syncMs: number,
  loadMs: number,
  ring: number,
): PassTiming {
  const block = { bytes: loadMs, computeMs, pinned: false };
  const device = { blocks: Array(blocks).fill(block), ringBytes: ring * loadMs, diskBytesPerMs: 1 };
  return { devices: [device], syncMs: Array(blocks).fill(syncMs) };
}

/** Steps of one to three unequal devices with blocks of any sizes, some pinned, some empty, and rings of any size. */
export const anyStep: fc.Arbitrary<PassTiming> = fc.integer({ min: 1, max: 9 }).chain((blocks) =>
  fc.record({
    devices: fc.array(anyDevice(blocks), { minLength: 1, maxLength: 3 }),
    syncMs: fc.array(fc.integer({ min: 0, max: 20 }), { minLength: blocks, maxLength: blocks }),
  }),
);

function anyDevice(count: number): fc.Arbitrary<TimedDevice> {
  const block = fc.record({
    bytes: fc.integer({ min: 0, max: 30 }),
    computeMs: fc.integer({ min: 1, max: 20 }),
    pinned: fc.boolean(),
  });
  const parts = fc.record({
    blocks: fc.array(block, { minLength: count, maxLength: count }),
    spare: fc.integer({ min: 0, max: 100 }),
    diskBytesPerMs: fc.constantFrom(1, 2),
  });
  return parts.map(({ blocks, spare, diskBytesPerMs }) => ({
    blocks,
    diskBytesPerMs,
    ringBytes: Math.max(...blocks.map(({ bytes }) => bytes)) + spare,
  }));
}
