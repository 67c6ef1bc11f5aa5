/** A step of fewer tokens is not divided: handing its sums over would take longer than what it hides. */
export const dividedTokens = 64;

/** Tokens of a step, one behind the other. */
export interface TokenRange {
  readonly first: number;
  readonly count: number;
}

/**
 * Divides the tokens of a step among `groups`, in order and as equally as possible, earlier groups having one more. They
 * pass through each block in this order, so that a token finds the keys and values of all tokens before it.
 */
export function divideTokens(tokens: number, groups: number): TokenRange[] {
  const border = (group: number) => Math.ceil((group * tokens) / groups);
  return Array.from({ length: groups }, (_, group) => ({
    first: border(group),
    count: border(group + 1) - border(group),
  }));
}

/** Tokens that a lane needs room for, where steps of up to `batch` tokens are divided among `lanes`. */
export function tokensOfLane(batch: number, lanes: number): number {
  return lanes === 1 ? batch : Math.min(batch, Math.max(dividedTokens - 1, Math.ceil(batch / lanes)));
}
