import type { Collective, CollectiveName } from "./collective.ts";
import type { Group } from "./group.ts";
import type { Prepared } from "./prepared.ts";

/**
 * A collective that is prepared once for each array of values, at its first sum: views, frames and the order of all steps.
 * What was prepared goes with the array, so callers that sum up again and again should do so in the same array.
 *
 * @param prepare - makes what sums up `values`, of `maxElements` at most
 */
export function preparedCollective(
  name: CollectiveName,
  group: Group,
  prepare: (values: Float32Array) => Prepared,
): Collective {
  const prepared = new WeakMap<Float32Array, Prepared>();
  return {
    name,
    allReduce(values) {
      let sum = prepared.get(values);
      if (sum === undefined) {
        sum = prepare(values);
        prepared.set(values, sum);
      }
      group.run(sum);
    },
  };
}
