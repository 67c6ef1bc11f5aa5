import { groupBytes } from "../../collective/group.ts";
import { defaultMaxPayload } from "../../collective/openLinks.ts";
import { type WireName, wireBytes } from "../../collective/wireBlock.ts";
import { dividedTokens, tokensOfLane } from "../division.ts";
import { type SumSizes, sumSizes } from "./reduction.ts";

/** Measured: a thread of Node with what it loads, 7 to 13 MB. */
const threadBytes = 14e6;

/**
 * Bytes that the links of a rank take, with the communication thread where passes are large enough to be divided.
 *
 * @param values - per token of the largest sums
 */
export function linkBytes(size: number, wire: WireName, values: SumSizes, batch: number): number {
  const bytes = (tokens: number) => {
    const { usual, exact } = sumSizes(values, tokens);
    const encoded = { bytes: (elements: number) => wireBytes(wire, elements) };
    return groupBytes(size, encoded, usual, defaultMaxPayload) + wireBytes("f32", exact);
  };
  if (size === 1) return 0;
  if (batch < dividedTokens) return bytes(batch);
  return bytes(dividedTokens - 1) + bytes(tokensOfLane(batch, 2)) + threadBytes;
}
