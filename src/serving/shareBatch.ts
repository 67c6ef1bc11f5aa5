/**
 * Shares the room of a step out among sequences. Each gets a token first, which is all that one being decoded wants;
 * what is left goes in equal parts to those that want more. Where it does not come out even, earlier ones have more.
 *
 * @param wanted - tokens that each sequence could pass through the blocks, at least one
 * @param room - most tokens of the step, at least one for each sequence
 * @returns tokens of each sequence
 */
export function shareBatch(wanted: readonly number[], room: number): number[] {
  const given = wanted.map(() => 1);
  let left = room - given.length;
  for (;;) {
    const open = wanted.flatMap((count, i) => (count > given[i]! ? [i] : []));
    if (left <= 0 || open.length === 0) return given;
    const each = Math.max(1, Math.floor(left / open.length));
    for (const i of open) {
      const more = Math.min(each, left, wanted[i]! - given[i]!);
      given[i]! += more;
      left -= more;
    }
  }
}
