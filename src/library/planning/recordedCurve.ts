import { HitCurve } from "../../plan/hitCurve.ts";
import { readRouting } from "../../trace/readRouting.ts";
import type { RoutingFacts } from "../../trace/routing.ts";

/** What a routing record says of pools. */
export interface RecordedCurve {
  readonly facts: RoutingFacts;
  /** Of the experts of all layers together. */
  readonly curve: HitCurve;
}

/**
 * Finds out how often experts of a routing record are among those that were used last. Throws what `readRouting` and
 * `accept` do.
 *
 * @param accept - told the record's head before the rest is read
 */
export async function recordedCurve(path: string, accept?: (facts: RoutingFacts) => void): Promise<RecordedCurve> {
  let recorded: RecordedCurve | undefined;
  await readRouting(path, (facts) => {
    accept?.(facts);
    const { layers, experts } = facts;
    const curve = new HitCurve(layers.length * experts);
    const places = new Map(layers.map((layer, i) => [layer, i * experts]));
    recorded = { facts, curve };
    return ({ layer, ids }) => {
      for (const id of new Set(Array.from(ids))) curve.take(places.get(layer)! + id);
    };
  });
  return recorded!;
}
