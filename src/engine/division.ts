/** A pass of fewer tokens is not divided: handing its sums over would take longer than what it hides. */
export const dividedTokens = 64;

/** Tokens that a lane needs room for, where passes of up to `batch` tokens are divided among `lanes`. */
export function tokensOfLane(batch: number, lanes: number): number {
  return lanes === 1 ? batch : Math.min(batch, Math.max(dividedTokens - 1, Math.ceil(batch / lanes)));
}
