/**
 * Nearly normal values from sums of uniform ones: exact integer arithmetic, so that every machine has the same bits.
 * @param {Float32Array} values
 * @param {() => number} random
 * @param {number} deviation
 * @param {number} [mean]
 */
export function fillNormal(values, random, deviation, mean = 0) {
  const scale = deviation / (65536 * Math.sqrt(4 / 12));
  for (let i = 0; i < values.length; i++) {
    const a = random();
    const b = random();
    values[i] = mean + scale * ((a & 0xffff) + (a >>> 16) + (b & 0xffff) + (b >>> 16) - 131070);
  }
}

/**
 * Unsigned 32-bit numbers from a text: FNV-1a into mulberry32.
 * @param {string} text
 * @returns {() => number}
 */
export function generator(text) {
  let state = 0x811c9dc5;
  for (const character of text) state = Math.imul(state ^ (character.codePointAt(0) ?? 0), 0x01000193);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  };
}
