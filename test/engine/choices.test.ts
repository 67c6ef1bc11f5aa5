import { describe, expect, it } from "vitest";
import { openWire, type WireName, wireNames } from "#stellium/collective/wire";
import { BlockChoice, ChoiceCheck, checkedValues } from "#stellium/engine/choices";
import { soloReducer } from "#stellium/engine/reducer";
import type { ChooseStep, RankBlock } from "#stellium/model/blocks/block";

/** Values beside the check; they end within a block of q8_0. */
const length = 50;
const perToken = 2;

/** A sum over ranks that is encoded again for every rank that adds to it, which coarsens it most. */
function sumOver(name: WireName, parts: readonly Float32Array[]): Float32Array {
  const wire = openWire(name);
  const travelled = (values: Float32Array) => {
    const [encoded, decoded] = [new Uint8Array(wire.bytes(values.length)), new Float32Array(values.length)];
    wire.encoding(values, encoded)();
    wire.decoding(encoded, decoded)();
    return decoded;
  };
  return parts.reduce((sum, part) => travelled(sum.map((value, i) => value + part[i]!)));
}

/** Whether ranks with these choices find that they agree; undefined: without a share. */
function agree(wire: WireName, choices: readonly (number[] | undefined)[]): boolean {
  const ranks = choices.filter((ids) => ids !== undefined).length;
  const parts = choices.map((ids, rank) => {
    const sum = new Float32Array(checkedValues(length)).fill(Number.NaN);
    sum.subarray(0, length).fill(1e4 * (rank + 1));
    const checked = ids && { values: Int32Array.from(ids), perToken };
    new ChoiceCheck(sum.subarray(length), ranks, checked).write();
    return sum;
  });
  return new ChoiceCheck(sumOver(wire, parts).subarray(length), ranks, undefined).agreed;
}

describe.each(wireNames)("ranks that add up in %s find out whether they chose alike", (wire) => {
  const chosen = [3, 90, 12, 5, 127, 0];
  const reordered = [90, 3, 5, 12, 0, 127];
  const otherOne = [3, 90, 12, 6, 127, 0];
  const swapped = [12, 5, 3, 90, 127, 0];

  it.each([2, 3, 8, 64])("%i of them", (size) => {
    const all = Array.from({ length: size }, (_, rank) => (rank % 2 === 0 ? chosen : reordered));
    expect(agree(wire, all)).toBe(true);
    expect(agree(wire, [undefined, ...all, undefined])).toBe(true);
    for (const rank of [0, 1, size - 1]) {
      for (const other of [otherOne, swapped]) expect(agree(wire, all.with(rank, other))).toBe(false);
    }
    expect(
      agree(
        wire,
        all.map((ids, rank) => (rank < size / 2 ? ids : otherOne)),
      ),
    ).toBe(false);
  });
});

describe("a choice that another rank makes", () => {
  /** A rank's choice of two of eight for two tokens, which takes that of rank 1. */
  function agreed(rank: number, theirs: readonly number[], stopped = false): Int32Array {
    const step = {
      does: "choose",
      ids: perToken,
      weights: perToken,
      among: 8,
      choose() {},
    } satisfies ChooseStep<RankBlock>;
    const block = { empty: false, sharers: [1, 2] } as unknown as RankBlock;
    const chosen = { ids: new Int32Array(4).fill(-1), weights: new Float32Array(4) };
    const choice = new BlockChoice({ block, step, fromSum: false, rank, partial: new Float32Array(0), chosen });
    const received = new Uint8Array(Int32Array.from(theirs).buffer);
    const broadcast = (from: number, bytes: Uint8Array) => {
      expect(from).toBe(1);
      if (rank !== from) bytes.set(received);
    };
    choice.agree({ ...soloReducer, broadcast }, stopped);
    return chosen.ids;
  }

  it("is taken if it is possible", () => {
    expect([...agreed(2, [7, 0, 3, 7])]).toEqual([7, 0, 3, 7]);
  });

  it.each([[[7, 8, 0, 1]], [[0, -1, 0, 1]], [[0, 1, 5, 5]]])("is refused if it is not: %j", (ids) => {
    expect(() => agreed(2, ids)).toThrow("rank 1 does not keep to the cluster protocol: it did not choose 2 of 8");
  });

  it("is possible, even if that rank was stopped before it could choose", () => {
    expect([...agreed(1, [], true)]).toEqual([0, 1, 0, 1]);
    expect(() => agreed(1, [])).toThrow("rank 1 does not keep");
  });
});
