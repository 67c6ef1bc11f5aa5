import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type CellMove,
  commandInts,
  decodeCommand,
  encodeCommand,
  moveFits,
  stepFits,
} from "#stellium/engine/rankCommand";
import { type BatchPart, countTokens, divideStep, layOut, resultsOf } from "#stellium/model/batch";

const limits = { slots: 6, context: 600, batch: 400, outputs: 400 };

const parts = fc
  .uniqueArray(
    fc.record({
      slot: fc.integer({ min: 0, max: 5 }),
      tokens: fc.integer({ min: 1, max: 60 }),
      position: fc.integer({ min: 0, max: 500 }),
      asking: fc.integer({ min: 0, max: 60 }),
      hidden: fc.boolean(),
    }),
    { selector: ({ slot }) => slot, minLength: 1, maxLength: 6 },
  )
  .map((drawn): BatchPart[] =>
    drawn.map(({ asking, ...part }) => ({ ...part, outputs: Math.min(asking, part.tokens) })),
  );

describe("commands to all ranks", () => {
  it("come out as they went in", () => {
    const slot = fc.integer({ min: 0, max: 5 });
    const cells = fc.integer({ min: 1, max: 600 });
    const key = fc.integer({ min: 0, max: 2 ** 31 - 1 });
    const move = fc.oneof<fc.Arbitrary<CellMove>[]>(
      fc.record({ move: fc.constant("copy" as const), from: slot, to: slot, cells }),
      fc.record({ move: fc.constantFrom("save" as const, "restore" as const), slot, key, cells }),
      fc.record({ move: fc.constant("drop" as const), key }),
      fc.constant({ move: "clear" as const }),
    );
    fc.assert(
      fc.property(
        fc.oneof(
          parts.map((step) => ({ step })),
          move,
        ),
        (command) => {
          const ints = new Int32Array(commandInts(limits.slots)).fill(99);
          encodeCommand(command, ints);
          expect(decodeCommand(ints, limits)).toEqual(command);
        },
      ),
    );
  });

  it("are refused unless they keep to the limits, whatever arrives", () => {
    const small = fc.integer({ min: -2, max: 8 });
    const ints = fc.array(fc.oneof(small, fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 })), {
      minLength: commandInts(limits.slots),
      maxLength: commandInts(limits.slots),
    });
    fc.assert(
      fc.property(ints, (drawn) => {
        try {
          const command = decodeCommand(Int32Array.from(drawn), limits);
          expect("step" in command ? stepFits(command.step, limits) : moveFits(command, limits)).toBe(true);
        } catch (error) {
          expect(error).toMatchObject({ code: "PROTOCOL_VIOLATION" });
        }
      }),
      { numRuns: 3000 },
    );
  });
});

it("a step with more logits than there is room for is refused, and one of as many hidden states is not", () => {
  const step = (hidden: boolean) => [{ slot: 0, tokens: 60, position: 0, outputs: 60, hidden }];
  expect(stepFits(step(true), { ...limits, outputs: 6 })).toBe(true);
  expect(stepFits(step(false), { ...limits, outputs: 60 })).toBe(true);
  expect(stepFits(step(false), { ...limits, outputs: 59 })).toBe(false);
});

describe("the layout of a step", () => {
  it("has every token once, those with results last, and tells where those are", () => {
    fc.assert(
      fc.property(parts, (step) => {
        const layout = layOut(step);
        const { runs, shape } = layout;
        const sources = runs.flatMap(({ source, tokens }) => Array.from({ length: tokens }, (_, i) => source + i));
        expect([...sources].sort((a, b) => a - b)).toEqual(sources.map((_, i) => i));
        expect(shape.tokens).toBe(countTokens(step));
        expect(shape.spans.reduce((sum, { tokens, slots }) => sum + tokens * slots, 0)).toBe(shape.tokens);
        expect(shape.outputs).toBe(step.reduce((sum, { outputs }) => sum + outputs, 0));
        const asking = sources.slice(shape.tokens - shape.outputs);
        const first = new Map(step.map((part, i) => [part.slot, countTokens(step.slice(0, i))]));
        const results = resultsOf(step, layout);
        const askingParts = step.filter(({ outputs }) => outputs > 0);
        expect(results).toHaveLength(askingParts.length);
        askingParts.forEach(({ slot, tokens, outputs }, i) => {
          const { hidden, column } = results[i]!;
          const from = asking[(hidden ? 0 : shape.hidden) + column];
          expect(from).toBe(first.get(slot)! + tokens - outputs);
        });
      }),
    );
  });

  it("is divided into pieces that make up the step again", () => {
    fc.assert(
      fc.property(parts, fc.integer({ min: 1, max: 100 }), (step, most) => {
        const pieces = divideStep(step, most);
        const tokens = pieces.map((piece) => countTokens(piece.step));
        expect(pieces.map(({ first }) => first)).toEqual(tokens.map((_, i) => i * most));
        expect(tokens.slice(0, -1).every((count) => count === most)).toBe(true);
        for (const part of step) {
          const own = pieces.flatMap((piece) => piece.step.filter(({ slot }) => slot === part.slot));
          expect(own.map(({ position }) => position)).toEqual(
            own.map((_, i) => part.position + countTokens(own.slice(0, i))),
          );
          expect(countTokens(own)).toBe(part.tokens);
          expect(own.reduce((sum, { outputs }) => sum + outputs, 0)).toBe(part.outputs);
        }
      }),
    );
  });
});
