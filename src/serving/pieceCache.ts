/** The bytes of tokens, fetched once each. */
export interface PieceCache {
  get(token: number): Uint8Array;
}

/**
 * Keeps all pieces in one growing array with two numbers per token, because an object for each would be many times
 * the size of the text.
 *
 * @param size number of tokens
 * @param read writes a token's bytes to `room`, and returns their number or minus the room needed
 */
export function createPieceCache(size: number, read: (token: number, room: Uint8Array) => number): PieceCache {
  let starts: Int32Array | undefined;
  let ends: Int32Array | undefined;
  let arena = new Uint8Array(0);
  let used = 0;
  const store = (token: number): number => {
    const length = read(token, arena.subarray(used));
    if (length < 0) {
      arena = grow(arena, used - length);
      return store(token);
    }
    used += length;
    return used;
  };
  return {
    get: (token) => {
      starts ??= new Int32Array(size).fill(-1);
      ends ??= new Int32Array(size);
      if (starts[token]! < 0) {
        const start = used;
        ends[token] = store(token);
        starts[token] = start;
      }
      return arena.subarray(starts[token], ends[token]);
    },
  };
}

function grow(bytes: Uint8Array, needed: number): Uint8Array<ArrayBuffer> {
  const larger = new Uint8Array(Math.max(needed, bytes.length * 2, 4096));
  larger.set(bytes);
  return larger;
}
