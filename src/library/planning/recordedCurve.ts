import { HitCurve } from "../../plan/hitCurve.ts";
import { readRouting } from "../../trace/readRouting.ts";
import type { RoutingFacts } from "../../trace/routing.ts";

export interface RecordedCurve {
  readonly facts: RoutingFacts;
  /** Over the experts of all layers. */
  readonly curve: HitCurve;
}

/**
 * Computes the hit curve of a routing record. Throws the errors of `readRouting` and `accept`.
 *
 * @param accept - called with the header before any choice is read
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
