import type { Collective } from "./collective.ts";
import type { Group } from "./group.ts";
import { summing, toOthers } from "./parts.ts";
import { preparedCollective } from "./preparedCollective.ts";
import { Transfer } from "./transfer.ts";

/** Everyone sends its values to everyone, and sums up in the order of ranks: one hop, (N-1) payloads per rank. */
export function exchange(group: Group): Collective {
  return preparedCollective("exchange", group, (values) => {
    const bytes = group.encodedFor(values);
    const encode = group.wire.encoding(values, bytes);
    const sum = new Transfer(group, toOthers(group, bytes), summing(group, values, bytes));
    return () => {
      encode();
      sum.run();
    };
  });
}
