/** Tokens of prompts of the throughput measurements. */
const short = 16;

/**
 * Tokens scattered over a vocabulary, behind its control tokens: others for another seed.
 * @param {number} vocabulary
 * @param {number} seed
 */
export function promptOf(vocabulary, seed, length = short) {
  return Array.from({ length }, (_, i) => 3 + ((((i + 1) * 7919 + seed * 104_729) % 2_147_483_647) % (vocabulary - 3)));
}
