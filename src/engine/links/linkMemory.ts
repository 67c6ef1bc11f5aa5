import { groupBytes } from "../../collective/group.ts";
import { defaultMaxPayload } from "../../collective/openLinks.ts";
import type { Wire } from "../../collective/wire.ts";
import { dividedTokens, tokensOfLane } from "../division.ts";

/** Measured: a thread of Node with what it loads, 7 to 13 MB. */
const threadBytes = 14e6;

/** Bytes that the links of a rank take, with the communication thread where steps are large enough to be divided. */
export function linkBytes(size: number, wire: Pick<Wire, "bytes">, embeddingLength: number, batch: number): number {
  const bytes = (tokens: number) => groupBytes(size, wire, embeddingLength * tokens, defaultMaxPayload);
  if (size === 1) return 0;
  if (batch < dividedTokens) return bytes(batch);
  return bytes(dividedTokens - 1) + bytes(tokensOfLane(batch, 2)) + threadBytes;
}
