/** Writes a value to shared memory, as UTF-8 JSON. Returns its bytes; throws `RangeError` where there is no room. */
export function writeJson(memory: Uint8Array, value: unknown): number {
  const text = JSON.stringify(value);
  const { read, written } = new TextEncoder().encodeInto(text, memory);
  if (read < text.length) throw new RangeError("there is no room for a message");
  return written;
}

/** Reads a value of so many bytes. */
export function readJson<T>(memory: Uint8Array, bytes: number): T {
  return JSON.parse(new TextDecoder().decode(memory.slice(0, bytes))) as T;
}
