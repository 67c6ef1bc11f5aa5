import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createTextStream } from "#stellium/serving/textStream";

function cut(bytes: Uint8Array, places: number[]): Uint8Array[] {
  const at = [0, ...places.map((place) => place % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  return at.slice(1).map((end, i) => bytes.subarray(at[i]!, end));
}

function read(pieces: Uint8Array[]): string[] {
  const stream = createTextStream();
  return [...pieces.map((piece) => stream.push(piece)), stream.flush()];
}

describe("text stream", () => {
  it("gives any text back from any pieces, in whole characters", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 40 }), fc.array(fc.nat()), (text, places) => {
        const emitted = read(cut(new TextEncoder().encode(text), places));
        expect(emitted.join("")).toBe(text);
        for (const part of emitted) expect(part).not.toMatch(/\p{Surrogate}/u);
      }),
      { numRuns: 1000 },
    );
  });

  it("decodes any bytes as in one piece, with U+FFFD for what is not UTF-8", () => {
    const bytes = fc.array(
      fc.constantFrom(0x41, 0x80, 0xbf, 0xc3, 0xe2, 0x82, 0xac, 0xf0, 0x9f, 0xed, 0xa0, 0xff, 0xef, 0xbb),
    );
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uint8Array(),
          bytes.map((list) => Uint8Array.from(list)),
        ),
        fc.array(fc.nat()),
        (all, places) => {
          const whole = Buffer.from(all).toString("utf8");
          expect(read(cut(all, places)).join("")).toBe(whole);
        },
      ),
      { numRuns: 3000 },
    );
  });

  it("waits for the rest of a character, and marks one cut short at the end", () => {
    const stream = createTextStream();
    expect(stream.push(Uint8Array.of(0xe2, 0x98))).toBe("");
    expect(stream.push(Uint8Array.of(0x83, 0x21))).toBe("☃!");
    expect(stream.push(Uint8Array.of(0xf0, 0x9f))).toBe("");
    expect(stream.flush()).toBe("\ufffd");
  });
});
