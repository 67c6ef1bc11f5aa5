/** A reproducible sequence of random numbers. */
export interface Random {
  /** The next number, uniform in [0, 1), a multiple of 2^-53. */
  uniform(): number;
}

/**
 * xoshiro128** 1.1 by Blackman and Vigna (https://prng.di.unimi.it/xoshiro128starstar.c).
 *
 * @param seed any safe integer
 */
export function createRandom(seed: number): Random {
  const state = seedWords(seed);
  return {
    uniform: () => {
      const high = next(state) >>> 5;
      return (high * 2 ** 26 + (next(state) >>> 6)) / 2 ** 53;
    },
  };
}

function next(s: Uint32Array): number {
  const result = Math.imul(rotateLeft(Math.imul(s[1]!, 5), 7), 9);
  const t = s[1]! << 9;
  s[2]! ^= s[0]!;
  s[3]! ^= s[1]!;
  s[1]! ^= s[2]!;
  s[0]! ^= s[3]!;
  s[2]! ^= t;
  s[3] = rotateLeft(s[3]!, 11);
  return result;
}

function rotateLeft(x: number, by: number): number {
  return (x << by) | (x >>> (32 - by));
}

/** Every bit of the seed reaches every word; the state of all zeros, which never leaves zero, is avoided. */
function seedWords(seed: number): Uint32Array {
  const low = (seed % 2 ** 32) | 0;
  const high = Math.floor(seed / 2 ** 32) | 0;
  const words = Uint32Array.from({ length: 4 }, (_, i) => mix(mix(low + step * (i + 1)) + high));
  if (words.every((word) => word === 0)) words[0] = 1;
  return words;
}

/** 2^32 divided by the golden ratio. */
const step = 0x9e3779b9;

/** MurmurHash3's 32-bit finalizer. */
function mix(x: number): number {
  let h = x | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}
