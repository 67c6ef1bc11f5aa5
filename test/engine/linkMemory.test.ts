import { describe, expect, it } from "vitest";
import { wireBytes } from "#stellium/collective/wireBlock";
import { dividedTokens } from "#stellium/engine/division";
import { linkBytes } from "#stellium/engine/links/linkMemory";

describe("memory of links", () => {
  const values = { usual: 4096, exact: 0 };

  it("is none for one rank, and counts the communication thread where steps may be divided", () => {
    expect(linkBytes(1, "f16", values, 512)).toBe(0);
    const [without, with_] = [dividedTokens - 1, dividedTokens].map((batch) => linkBytes(2, "f16", values, batch));
    expect(with_! - without!).toBeGreaterThan(10e6);
  });

  it("grows with the batch by half of it: no sum is of more tokens", () => {
    const grown = linkBytes(3, "f16", values, 1024) - linkBytes(3, "f16", values, 512);
    expect(grown).toBe(wireBytes("f16", 4096 * 256));
  });

  it("counts what is added up in f32 besides", () => {
    const [without, with_] = [0, 2].map((exact) => linkBytes(2, "f16", { usual: 4096, exact }, 32));
    expect(with_! - without!).toBe(4 * 2 * 32);
  });
});
