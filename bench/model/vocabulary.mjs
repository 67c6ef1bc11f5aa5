const letters = "abcdefghijklmnopqrstuvwxyz";

/**
 * A byte-level BPE vocabulary of exactly `size` tokens: the 256 bytes, then words of two, three and four letters, each made
 * by one merge, and the two special tokens last. Any text can be tokenized with it.
 * @param {number} size
 * @returns {{ tokens: string[], merges: string[], types: Int32Array<ArrayBuffer>, bos: number, eos: number }}
 */
export function vocabularyOf(size) {
  const bytes = byteCharacters();
  const { words, merges } = wordsFrom([...letters, bytes[32] ?? ""], size - 258);
  const types = new Int32Array(size).fill(1);
  types.fill(3, size - 2);
  return { tokens: [...bytes, ...words, "<|bos|>", "<|eos|>"], merges, types, bos: size - 2, eos: size - 1 };
}

/**
 * @param {string[]} seeds
 * @param {number} count
 */
function wordsFrom(seeds, count) {
  const queue = [...seeds];
  const merges = [];
  for (let head = 0; merges.length < count; head++) {
    for (const letter of letters.slice(0, count - merges.length)) {
      merges.push(`${queue[head]} ${letter}`);
      queue.push(`${queue[head]}${letter}`);
    }
  }
  return { words: queue.slice(seeds.length), merges };
}

/** GPT-2's character for each byte: the printable ones stand for themselves, the others come from U+0100 on. */
function byteCharacters() {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
    return String.fromCodePoint(printable ? byte : next++);
  });
}
