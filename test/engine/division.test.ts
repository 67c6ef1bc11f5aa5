import fc from "fast-check";
import { expect, it } from "vitest";
import { dividedTokens, tokensOfLane } from "#stellium/engine/division";
import { countTokens, divideStep } from "#stellium/model/batch";

it("fits into the lanes, whether a step is divided or too small for it", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 5000 }), fc.integer({ min: 1, max: 8 }), fc.nat(), (batch, lanes, part) => {
      const tokens = 1 + (part % batch);
      const room = tokensOfLane(batch, lanes);
      const groups = tokens < dividedTokens ? 1 : lanes;
      const step = [{ slot: 0, tokens, position: 0, outputs: 1, hidden: false }];
      const pieces = divideStep(step, Math.ceil(tokens / groups));
      expect(pieces.length).toBeLessThanOrEqual(groups);
      expect(Math.max(...pieces.map((piece) => countTokens(piece.step)))).toBeLessThanOrEqual(room);
      expect(room).toBeLessThanOrEqual(batch);
    }),
  );
});
