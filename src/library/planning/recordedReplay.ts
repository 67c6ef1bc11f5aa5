import { RoutingReplay } from "../../plan/routingReplay.ts";
import { readRouting } from "../../trace/readRouting.ts";
import type { RoutingFacts } from "../../trace/routing.ts";

/**
 * Reads a routing record to replay it. Throws the errors of `readRouting` and `accept`.
 *
 * @param accept - called with the header before any choice is read
 */
export async function recordedReplay(path: string, accept?: (facts: RoutingFacts) => void): Promise<RoutingReplay> {
  let replay: RoutingReplay | undefined;
  await readRouting(path, (facts) => {
    accept?.(facts);
    const begun = new RoutingReplay(facts);
    replay = begun;
    return (choice) => begun.take(choice);
  });
  return replay!;
}
