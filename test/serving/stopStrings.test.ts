import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createStopScanner } from "#stellium/serving/stopStrings";

function scan(pieces: string[], stops: string[]) {
  const scanner = createStopScanner(stops);
  let text = "";
  let stop: string | undefined;
  for (const piece of pieces) {
    const result = scanner.push(piece);
    text += result.text;
    stop ??= result.stop;
  }
  return { text: text + scanner.flush(), stop };
}

/** Reads on character by character until a stop string ends there. */
function reference(text: string, stops: string[]) {
  for (let end = 1; end <= text.length; end++) {
    const matches = stops.filter((stop) => text.slice(0, end).endsWith(stop));
    const stop = matches.sort((a, b) => b.length - a.length)[0];
    if (stop !== undefined) return { text: text.slice(0, end - stop.length), stop };
  }
  return { text, stop: undefined };
}

function cut(text: string, places: number[]): string[] {
  const at = [0, ...places.map((place) => place % (text.length + 1)).sort((a, b) => a - b), text.length];
  return at.slice(1).map((end, i) => text.slice(at[i]!, end));
}

describe("stop strings", () => {
  const letters = fc.string({ unit: fc.constantFrom("a", "b", "c"), maxLength: 30 });
  const stops = fc.array(fc.string({ unit: fc.constantFrom("a", "b", "c"), minLength: 1, maxLength: 5 }), {
    maxLength: 4,
  });

  it("cut any text before the first stop, however it is divided", () => {
    fc.assert(
      fc.property(letters, stops, fc.array(fc.nat()), (text, some, places) => {
        expect(scan(cut(text, places), some)).toEqual(reference(text, some));
      }),
      { numRuns: 3000 },
    );
  });

  it("hold back no more than may become a stop", () => {
    fc.assert(
      fc.property(letters, stops, (text, some) => {
        fc.pre(reference(text, some).stop === undefined);
        const shown = createStopScanner(some).push(text).text;
        const held = text.slice(shown.length);
        expect(held === "" || some.some((stop) => stop.startsWith(held))).toBe(true);
      }),
    );
  });

  it("are found inside one piece, across pieces, and after a false start", () => {
    expect(scan(["one END two"], ["END"])).toEqual({ text: "one ", stop: "END" });
    expect(scan(["one E", "N", "D two"], ["END"])).toEqual({ text: "one ", stop: "END" });
    expect(scan(["a<|im", "<|im_end|>b"], ["<|im_end|>"])).toEqual({ text: "a<|im", stop: "<|im_end|>" });
  });

  it("let text pass at once where nothing can match", () => {
    const scanner = createStopScanner(["\n\n"]);
    expect(scanner.push("hello")).toEqual({ text: "hello" });
    expect(scanner.push(" world\n")).toEqual({ text: " world" });
    expect(scanner.push("!")).toEqual({ text: "\n!" });
  });

  it("end the stream: nothing comes after one", () => {
    const scanner = createStopScanner(["x"]);
    expect(scanner.push("axb")).toEqual({ text: "a", stop: "x" });
    expect(scanner.push("c")).toEqual({ text: "" });
    expect(scanner.flush()).toBe("");
  });

  it("must not be empty", () => {
    expect(() => createStopScanner(["a", ""])).toThrow(expect.objectContaining({ code: "BAD_USAGE" }));
  });
});
