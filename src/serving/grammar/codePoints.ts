/** A range of numbers, both ends included: code points, or bytes. */
export type CodePointRange = readonly [first: number, last: number];

/** The highest code point. */
export const lastCodePoint = 0x10ffff;

/** Code points that UTF-8 has no bytes for. */
const surrogates: CodePointRange = [0xd800, 0xdfff];

/** The first code point of each length in UTF-8, and the one behind the last. */
const lengthBorders = [0, 0x80, 0x800, 0x10000, lastCodePoint + 1];

/** Sorted ranges that do not touch, with the same members. */
export function normalizeRanges(ranges: readonly CodePointRange[]): CodePointRange[] {
  const sorted = [...ranges].filter(([first, last]) => first <= last).sort((a, b) => a[0] - b[0]);
  const merged: [number, number][] = [];
  for (const [first, last] of sorted) {
    const before = merged.at(-1);
    if (before !== undefined && first <= before[1] + 1) before[1] = Math.max(before[1], last);
    else merged.push([first, last]);
  }
  return merged;
}

/** All code points but those of `ranges`. NUL is none of them: no text has one unless a grammar names it. */
export function complementRanges(ranges: readonly CodePointRange[]): CodePointRange[] {
  const gaps: CodePointRange[] = [];
  let next = 1;
  for (const [first, last] of normalizeRanges(ranges)) {
    gaps.push([next, first - 1]);
    next = Math.max(next, last + 1);
  }
  return normalizeRanges([...gaps, [next, lastCodePoint]]);
}

/** The UTF-8 of a range of code points, as sequences of byte ranges; one that has surrogates only gives none. */
export function utf8Sequences([first, last]: CodePointRange): CodePointRange[][] {
  return withoutSurrogates([first, last]).flatMap((part) => splitByLength(part).flatMap(byteSequences));
}

function withoutSurrogates([first, last]: CodePointRange): CodePointRange[] {
  const parts: CodePointRange[] = [
    [first, Math.min(last, surrogates[0] - 1)],
    [Math.max(first, surrogates[1] + 1), last],
  ];
  return parts.filter(([low, high]) => low <= high);
}

function splitByLength([first, last]: CodePointRange): CodePointRange[] {
  const parts = lengthBorders
    .slice(1)
    .map((end, i): CodePointRange => [Math.max(first, lengthBorders[i]!), Math.min(last, end - 1)]);
  return parts.filter(([low, high]) => low <= high);
}

/** Of code points of one length. Where the last six bits do not run through, the range is cut until they do. */
function byteSequences([first, last]: CodePointRange): CodePointRange[][] {
  const [low, high] = [encode(first), encode(last)];
  for (let tail = 1; tail < low.length; tail++) {
    const block = 64 ** tail - 1;
    if (Math.floor(first / (block + 1)) === Math.floor(last / (block + 1))) continue;
    if (first % (block + 1) !== 0) return cutAt(first, first - (first % (block + 1)) + block, last);
    if (last % (block + 1) !== block) return cutAt(first, last - (last % (block + 1)) - 1, last);
  }
  return [low.map((byte, i): CodePointRange => [byte, high[i]!])];
}

function cutAt(first: number, middle: number, last: number): CodePointRange[][] {
  return [...byteSequences([first, middle]), ...byteSequences([middle + 1, last])];
}

function encode(codePoint: number): number[] {
  return [...Buffer.from(String.fromCodePoint(codePoint), "utf8")];
}
