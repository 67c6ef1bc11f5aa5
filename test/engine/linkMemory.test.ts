import { describe, expect, it } from "vitest";
import { openWire } from "#stellium/collective/wire";
import { dividedTokens } from "#stellium/engine/division";
import { linkBytes } from "#stellium/engine/links/linkMemory";

describe("memory of links", () => {
  const wire = openWire("f16");

  it("is none for one rank, and counts the communication thread where steps may be divided", () => {
    expect(linkBytes(1, wire, 4096, 512)).toBe(0);
    const [without, with_] = [dividedTokens - 1, dividedTokens].map((batch) => linkBytes(2, wire, 4096, batch));
    expect(with_! - without!).toBeGreaterThan(10e6);
  });

  it("grows with the batch by half of it: no sum is of more tokens", () => {
    const grown = linkBytes(3, wire, 4096, 1024) - linkBytes(3, wire, 4096, 512);
    expect(grown).toBe(wire.bytes(4096 * 256));
  });
});
