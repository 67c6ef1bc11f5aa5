import { describe, expect, it } from "vitest";
import { allocateNative, allocatePages, mostPartBytes, NativeBytes, viewNative } from "#stellium/native/memory";

/** More than one array can have, of which only a few pages are touched. */
const large = 5 * 2 ** 30 + 12_345;

describe("native memory", () => {
  it("may be larger than an array", () => {
    using memory = allocatePages(large);
    expect(memory.bytes).toBe(large);
    expect(() => memory.view).toThrow(RangeError);
    expect(() => viewNative(memory.address, large)).toThrow("an array cannot have 5368721465 bytes");
  });

  it("is seen in parts, across all borders", () => {
    using memory = allocateNative(large);
    const bytes = new NativeBytes(memory.address, large);
    for (const offset of [0, mostPartBytes - 2, 2 ** 32 - 2, 2 ** 32, large - 4]) {
      bytes.part(offset, 4).set([1, 2, 3, offset % 251]);
      const same = viewNative(memory.address + BigInt(offset), 4);
      expect([...same]).toEqual([1, 2, 3, offset % 251]);
    }
  });

  it("is passed part by part, to the last byte", () => {
    using memory = allocateNative(large);
    const bytes = new NativeBytes(memory.address, large);
    const lengths = [...bytes.parts(100, large - 100)].map((part) => part.length);
    expect(lengths).toEqual([...Array<number>(5).fill(mostPartBytes), large - 100 - 5 * mostPartBytes]);
    expect([...bytes.parts(0, 0)]).toEqual([]);
  });

  it("refuses what is beyond its end, and parts that are too large", () => {
    using memory = allocateNative(64);
    const bytes = new NativeBytes(memory.address, 64);
    expect(bytes.part(60, 4)).toHaveLength(4);
    expect(() => bytes.part(61, 4)).toThrow("no 4 bytes at 61");
    expect(() => new NativeBytes(memory.address, large).part(0, mostPartBytes + 1)).toThrow(RangeError);
  });
});
