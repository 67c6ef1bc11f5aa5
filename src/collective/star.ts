import type { Collective } from "./collective.ts";
import type { Group } from "./group.ts";
import { replacing, summing, toOthers } from "./parts.ts";
import type { Prepared } from "./prepared.ts";
import { preparedCollective } from "./preparedCollective.ts";
import { Transfer } from "./transfer.ts";

/**
 * Everyone sends its values to rank 0, which sums up in the order of ranks and sends the result to everyone: two hops,
 * (N-1) payloads in and out of the centre. TPI-LLM (arXiv 2410.00531), section 3.2.
 */
export function star(group: Group): Collective {
  const prepare = group.rank === 0 ? centre : point;
  return preparedCollective("star", group, (values) => prepare(group, values));
}

function centre(group: Group, values: Float32Array): Prepared {
  const bytes = group.encodedFor(values);
  const encode = group.wire.encoding(values, bytes);
  const decode = group.wire.decoding(bytes, values);
  const sum = new Transfer(group, [], summing(group, values, bytes));
  const spread = new Transfer(group, toOthers(group, bytes), []);
  return () => {
    encode();
    sum.run();
    encode();
    decode();
    spread.run();
  };
}

function point(group: Group, values: Float32Array): Prepared {
  const bytes = group.encodedFor(values);
  const encode = group.wire.encoding(values, bytes);
  const sum = new Transfer(group, [{ link: group.link(0), bytes }], [replacing(group, 0, values)]);
  return () => {
    encode();
    sum.run();
  };
}
