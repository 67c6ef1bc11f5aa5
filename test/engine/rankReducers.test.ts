import { expect, it } from "vitest";
import type { Group } from "#stellium/collective/group";
import { inlineReducer } from "#stellium/engine/links/rankReducers";
import type { Reduction } from "#stellium/engine/links/reduction";
import { noRecorder } from "#stellium/trace/recorder";

/** A way to add up that says by which wire type it was asked to. */
function reductionOver(wire: string, asked: string[]): Reduction {
  const collective = { name: "solo", allReduce: () => asked.push(wire) };
  return { collective, wire: { bytes: (count: number) => 4 * count } } as unknown as Reduction;
}

it("values that steer what is computed next are added up in f32, whatever the wire type", () => {
  const asked: string[] = [];
  const reductions = { usual: reductionOver("q8_0", asked), exact: reductionOver("f32", asked) };
  const reducer = inlineReducer(reductions, {} as Group, noRecorder);
  for (const exact of [false, true, false]) {
    reducer.start(0, { values: new Float32Array(2), address: 0n, exact }, 0);
    expect(reducer.wait(0)).toBe(true);
  }
  expect(asked).toEqual(["q8_0", "f32", "q8_0"]);
});
